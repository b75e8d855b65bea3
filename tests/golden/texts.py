"""The texts that models are compared on. Same texts on every machine: nothing here reads a file or asks the clock.

golden()     some 45 texts: languages, hostile strings, empty, and longer than any limit
reference()  540 texts of 1 to over 600 tokens, in random order of length"""
import random

SENTENCES = [
    "The old lighthouse keeper counted the ships before he lit the lamp.",
    "She sells seashells by the seashore, although nobody has bought one since 1908.",
    "Returns the number of bytes that were written, or -1 with errno set if the call failed before anything was sent.",
    "Mitochondria are often called the powerhouse of the cell; that is a metaphor, not an explanation.",
    "def merge(a, b): return sorted(a + b, key=lambda item: (item.rank, item.name))",
    "Der Zug nach Köln fährt heute ausnahmsweise von Gleis 13 ab, bitte beachten Sie die Durchsagen.",
    "Die Rechtsschutzversicherungsgesellschaften übernehmen keine Haftung für Schäden durch Überspannung.",
    "Le chat dort sur le rebord de la fenêtre pendant que la pluie tambourine contre les vitres.",
    "L'été dernier, nous avons traversé l'Auvergne à vélo; où êtes-vous allés, vous ?",
    "El perro de San Roque no tiene rabo porque Ramón Rodríguez se lo ha cortado.",
    "¿Cuánto cuesta un billete de ida y vuelta a Zaragoza para mañana por la mañana?",
    "Nel mezzo del cammin di nostra vita mi ritrovai per una selva oscura.",
    "A rápida raposa marrom pula por cima do cão preguiçoso enquanto o coração bate.",
    "Zażółć gęślą jaźń, a potem odpocznij w cieniu starej lipy.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy nad rozbouřeným Labem.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Поезд прибывает на третий путь, будьте осторожны у края платформы.",
    "Чуєш їх, доцю, га? Кумедна ж ти, прощайся без ґольфів!",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία και περπατώ ως το λιμάνι.",
    "Pijamalı hasta yağız şoföre çabucak güvendi; İstanbul'da ışıklar yandı.",
    "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر ومغلف بجلد أزرق.",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה.",
    "यह पुस्तक मेज़ पर रखी है और बच्चे बाहर बारिश में खेल रहे हैं।",
    "আমার সোনার বাংলা, আমি তোমায় ভালোবাসি।",
    "தமிழ் மொழி உலகின் பழமையான மொழிகளில் ஒன்று.",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน",
    "我昨天在图书馆里读完了那本关于星星的书，今天想再借一本。",
    "天地玄黃，宇宙洪荒。日月盈昃，辰宿列張。",
    "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。",
    "カタカナとひらがなと漢字が混ざった、１２３（全角）の文章です。",
    "다람쥐 헌 쳇바퀴에 타고파 하지만 오늘은 비가 와서 쉽니다.",
    "Tôi yêu tiếng nước tôi từ khi mới ra đời, người ơi.",
    "Flygande bäckasiner söka hwila på mjuka tuvor, sade gubben på ön.",
    "Albert osti fagotin ja töräytti puhkuvan melodian järven yli.",
    "Árvíztűrő tükörfúrógép áll a műhely sarkában, olajosan és büszkén.",
    "Kæmi ný öxi hér, ykist þjófum nú bæði víl og ádrepa.",
    "Sanye mara nokuthi sihambe kusasa ekuseni ngaphambi kokuphuma kwelanga.",
    "The patient was given 0.5 mg/kg i.v. at 08:15; SpO₂ rose from 88 % to 97 % within ≈ 4 min.",
    "https://example.org/a/very/long/path?with=query&and=more#fragment is not a sentence, but people embed it.",
    "E = mc², ∑ᵢ xᵢ² ≤ 1 ⇒ ‖x‖ ≤ 1, and ∀ε>0 ∃δ>0; see § 4.2 (b).",
]

HOSTILE = [
    "", " ", "\t\r\n", ".", "a", "I", "\u00e9", "e\u0301",
    "\u212b\u00c5A\u030a", "\ufb01\ufb03 \u2460 \uff21\uff22 \u33a7",
    "nul\0in the middle\0", "\u200bzero\u200bwidth\u200d\u200c\ufeff",
    "\u202eright to left override\u202c \u2066isolated\u2069",
    "family \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 "
    "flag \U0001f1f3\U0001f1f1 thumbs \U0001f44d\U0001f3fd",
    "[CLS] [SEP] [MASK] [PAD] [UNK] <s> </s> <mask> <pad> <unk>", "##ing ##s \u2581the \u0120the",
    "Zalgo: " + "".join(c + "\u0300\u0301\u0336\u0489" for c in "he comes"), "\x01\x02\x1b[31mred\x1b[0m\x7f\x80\x9f",
    "\U000e0041\U000e0042\ue000\uf8ff\U0010fffd\ufffd\uffff", "donaudampfschifffahrtsgesellschaft" * 12, "\u4e00" * 700,
    "!?" * 400, "word " * 900, "0123456789" * 80, "\u0e19\u0e49\u0e33" * 120, "\ud55c\uae00" * 150,
]


def golden():
    return SENTENCES[::2] + HOSTILE


def reference(count=540, seed=20):
    """Lengths are spread evenly over the logarithm, from one word to some 600; most texts mix up to three languages."""
    rng = random.Random(seed)

    def pick(items):
        return items[int(rng.random() * len(items))]

    texts = [text for text in HOSTILE]
    while len(texts) < count:
        words_wanted = int(600 ** rng.random())
        languages = [pick(SENTENCES) for _ in range(1 + int(rng.random() * 3))]
        words = []
        while len(words) < words_wanted:
            words += (pick(languages) if rng.random() < 0.8 else pick(SENTENCES)).split(" ")
        texts.append(" ".join(words[:words_wanted]))
    order = sorted(range(len(texts)), key=lambda _: rng.random())
    return [texts[i] for i in order]
