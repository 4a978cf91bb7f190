# Short names for the commands of ./run (https://just.systems; `uvx --from rust-just just`).
set positional-arguments

# start the gateway on an embedded database
serve *args:
    ./run serve "$@"

# run the tests
test *args:
    ./run test "$@"

# lint, types, import contracts
check:
    ./run check

# measure against nginx
bench *args:
    ./run bench "$@"

# run Claude Code, Codex and Gemini CLI through the gateway (needs npm and the right to make a network namespace)
agents *args:
    ./run agents "$@"
