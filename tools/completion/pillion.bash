# bash completion for pillion. Made by 'pillion completion bash'; load it with:
#   source <(pillion completion bash)
_pillion() {
    local IFS=$' \t\n' cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
    local words='' options='' files=''
    COMPREPLY=()
    if [[ $COMP_CWORD -eq 1 ]]; then
        COMPREPLY=($(compgen -W 'embed similarity tokenize serve show compile verify replay doctor completion help --help --version' -- "$cur"))
        return
    fi
    case ${COMP_WORDS[1]}:$prev in
    embed:--output|embed:-o) files=1 ;;
    embed:--format|embed:-f) words='auto jsonl json csv npy f32' ;;
    embed:--model|embed:-m) files=1 ;;
    embed:--precision) words='auto f32 bf16 int8' ;;
    embed:--input|embed:-i) files=1 ;;
    embed:--input-format) words='auto lines jsonl' ;;
    embed:--prompt|embed:-p) return ;;
    embed:--threads|embed:-t) return ;;
    embed:--batch-tokens) return ;;
    similarity:--top|similarity:-n) return ;;
    similarity:--model|similarity:-m) files=1 ;;
    similarity:--precision) words='auto f32 bf16 int8' ;;
    similarity:--input|similarity:-i) files=1 ;;
    similarity:--input-format) words='auto lines jsonl' ;;
    similarity:--prompt|similarity:-p) return ;;
    similarity:--threads|similarity:-t) return ;;
    similarity:--batch-tokens) return ;;
    tokenize:--output|tokenize:-o) files=1 ;;
    tokenize:--model|tokenize:-m) files=1 ;;
    tokenize:--precision) words='auto f32 bf16 int8' ;;
    tokenize:--input|tokenize:-i) files=1 ;;
    tokenize:--input-format) words='auto lines jsonl' ;;
    tokenize:--prompt|tokenize:-p) return ;;
    tokenize:--threads|tokenize:-t) return ;;
    tokenize:--batch-tokens) return ;;
    serve:--host) return ;;
    serve:--port) return ;;
    serve:--listen) return ;;
    serve:--model|serve:-m) files=1 ;;
    serve:--precision) words='auto f32 bf16 int8' ;;
    serve:--workers) return ;;
    serve:--files-root) files=1 ;;
    serve:--allow-host) return ;;
    serve:--allow-origin) return ;;
    serve:--token-file) files=1 ;;
    serve:--handshake) files=1 ;;
    serve:--max-connections) return ;;
    serve:--max-memory) return ;;
    serve:--keep-alive) return ;;
    serve:--drain) return ;;
    serve:--log-level) words='error warn info debug' ;;
    serve:--config) files=1 ;;
    show:--model|show:-m) files=1 ;;
    show:--precision) words='auto f32 bf16 int8' ;;
    compile:--name) return ;;
    compile:--precision) words='auto f32 bf16 int8' ;;
    verify:--model|verify:-m) files=1 ;;
    verify:--precision) words='auto f32 bf16 int8' ;;
    replay:--model|replay:-m) files=1 ;;
    replay:--precision) words='auto f32 bf16 int8' ;;
    replay:--workers) return ;;
    doctor:--host) return ;;
    doctor:--port) return ;;
    *)
        case ${COMP_WORDS[1]} in
        embed) words='' options='--help --output --format --no-normalize --no-truncate --model --precision --input --input-format --prompt --threads --batch-tokens --quiet' ;;
        similarity) words='' options='--help --top --json --model --precision --input --input-format --prompt --threads --batch-tokens --quiet' ;;
        tokenize) words='' options='--help --output --no-truncate --no-special --model --precision --input --input-format --prompt --threads --batch-tokens --quiet' ;;
        serve) words='' options='--help --host --port --listen --model --precision --workers --files-root --allow-host --allow-origin --token-file --generate-token --without-token --handshake --max-connections --max-memory --keep-alive --with-parent --with-stdin --replace --drain --log-level --config' ;;
        show) words='' options='--help --json --model --precision' files=1 ;;
        compile) words='' options='--help --name --precision --quiet' files=1 ;;
        verify) words='' options='--help --model --precision' files=1 ;;
        replay) words='' options='--help --json --alone --model --precision --workers' files=1 ;;
        doctor) words='' options='--help --json --host --port' ;;
        completion) words='bash zsh fish' options='--help' ;;
        help) words='embed similarity tokenize serve show compile verify replay doctor completion help' options='--help --man' ;;
        esac
        [[ $cur == -* ]] && words=$options files='' ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    if [[ $files ]]; then
        IFS=$'\n'
        COMPREPLY=($(compgen -f -- "$cur"))
        compopt -o filenames 2>/dev/null
    fi
}
complete -F _pillion pillion
