"""WebAssembly modules in their text form."""

ALLOC = '(func (export "alloc") (param i32) (result i32) (i32.const 1024))'
MEMORY = '(memory (export "memory") 2)'
RUN = '(func (export "run") (param i32 i32) (result i64)'
# Gives back what it was given.
SAME = "(i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1)))"


def module(body: str = SAME, *, memory: str = MEMORY, alloc: str = ALLOC, more: str = "") -> bytes:
    """A module of this `run`."""
    return f"(module {memory} {more} {alloc} {RUN} {body}))".encode()
