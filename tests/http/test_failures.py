"""What a client is told about texts that could not be computed: a code for each cause, 422 for what another try would
not cure, 503 for the rest, and the others' vectors for those who ask for them. Rows B3, I16 and N1 of the plan, their
HTTP side; the causes are played by fake_server.c."""
import itertools
import json

from raw import FakeCase, Server, main

AGAIN = {"deadline": "deadline_exceeded", "lost": "workers_lost", "unavailable": "unavailable",
         "nomem": "out_of_memory",
         "cancelled": "cancelled"}
NEVER = {"internal": "worker_died", "poison": "text_set_aside", "numeric": "numeric_error", "long": "text_too_long",
         "io": "text_refused"}
CODES = {**AGAIN, **NEVER}
PARTIAL = {"X-Pillion-Partial": "1"}


class Failures(FakeCase):
    def embed(self, texts, headers=()):
        return self.server.post("/embed", {"texts": texts}, headers)

    def assert_named(self, answer, index, name):
        status = 503 if name in AGAIN else 422
        self.assertEqual(answer.status, status, (name, answer))
        self.assertEqual(int(answer.headers.get("retry-after", 0)), 1 if status == 503 else 0)
        error, = answer.json()["detail"]
        self.assertEqual((error["type"], error["loc"], error["input"]),
                         (CODES[name], ["body", "texts", index], f"fail:{name}"))
        self.assertGreater(len(error["msg"]), 10)

    def test_each_cause_has_its_code_and_is_named_with_its_index(self):
        for name in CODES:
            for index in (0, 3, 63):
                texts = [f"text {i}" for i in range(64)]
                texts[index] = f"fail:{name}"
                self.assert_named(self.embed(texts), index, name)

    def test_i16_a_poison_at_every_index_costs_only_itself(self):
        for index in range(64):
            texts = ["x" * (i + 1) for i in range(64)]
            texts[index] = "fail:poison"
            self.assert_named(self.embed(texts), index, "poison")
            answer = self.embed(texts, PARTIAL)
            vectors = answer.json()["vectors"]
            self.assertEqual(answer.status, 200)
            self.assertEqual([v and v[0] for v in vectors], [None if i == index else i + 1 for i in range(64)])
            error, = answer.json()["errors"]
            self.assertEqual((error["index"], error["code"]), (index, "text_set_aside"))

    def test_what_no_other_try_cures_is_named_first(self):
        for again, never in itertools.product(AGAIN, NEVER):
            self.assert_named(self.embed(["a", f"fail:{again}", "b", f"fail:{never}", f"fail:{never}"]), 3, never)
        self.assert_named(self.embed(["a", "fail:lost", "fail:deadline"]), 1, "lost")

    def test_a_partial_answer_has_null_in_place_and_an_error_for_each(self):
        texts = ["a", "fail:poison", "bb", "fail:lost", "fail:numeric"]
        answer = self.embed(texts, PARTIAL)
        body = answer.json()
        self.assertEqual((answer.status, list(body)), (200, ["vectors", "errors"]))
        self.assertEqual([v and v[0] for v in body["vectors"]], [1, None, 2, None, None])
        self.assertEqual([(e["index"], e["code"]) for e in body["errors"]],
                         [(1, "text_set_aside"), (3, "workers_lost"), (4, "numeric_error")])
        self.assertTrue(all(list(e) == ["index", "code", "message"] for e in body["errors"]))
        body = self.embed(["fail:poison", "fail:poison"], PARTIAL).json()
        self.assertEqual((body["vectors"], len(body["errors"])), ([None, None], 2))

    def test_a_large_partial_answer_is_the_same_in_slices(self):
        texts = ["fail:lost" if i in (0, 2000, 4095) else "x" * (i % 9) for i in range(4096)]
        with Server.fake("dim=64") as s:
            answer = s.post("/embed", {"texts": texts}, PARTIAL).json()
        self.assertEqual([v and v[0] for v in answer["vectors"]], [None if t[:1] == "f" else len(t) for t in texts])
        self.assertEqual({len(v) for v in answer["vectors"] if v}, {64})
        self.assertEqual([e["index"] for e in answer["errors"]], [i for i, t in enumerate(texts) if t[:1] == "f"])

    def test_a_partial_answer_without_failures_is_an_ordinary_one(self):
        self.assertEqual(self.embed(["a", "b"], PARTIAL).body, self.embed(["a", "b"]).body)

    def test_only_1_asks_for_a_partial_answer(self):
        for value in ("0", "", "true", "11", "yes"):
            self.assertEqual(self.embed(["fail:poison"], {"X-Pillion-Partial": value}).status, 422)

    def test_a_failed_text_is_echoed_only_a_little_and_escaped(self):
        for extra in ("\u0000\u001b[31m\r\n\"\\", "é" * 400, "\U0001f469" * 100):
            text = "fail:poison\u0000" + extra  # the name ends at the NUL
            answer = self.embed([text])
            self.assertEqual(answer.status, 422)
            self.assertLess(len(answer.body), 1200)
            self.assertFalse([b for b in answer.body if b < 0x20])
            echo = answer.json()["detail"][0]["input"]
            self.assertLessEqual(len(echo.encode()), 256 + 3)
            self.assertTrue(text.startswith(echo.removesuffix("...")))

    def test_messages_are_fixed_strings(self):
        seen = {}
        for text in ("fail:poison", "fail:poison\u0000 other"):
            error, = json.loads(self.embed([text], PARTIAL).body)["errors"]
            seen[text] = error["message"]
        self.assertEqual(len(set(seen.values())), 1)


if __name__ == "__main__":
    main(needs_model=False)
