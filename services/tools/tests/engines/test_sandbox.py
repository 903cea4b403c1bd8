"""The Python sandbox: what works, and that nothing gets out."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from errand_tools.domain.tools import ToolError, ToolFailed, ToolTimedOut
from errand_tools.engines.sandbox import MontySandbox


@pytest.fixture
async def sandbox() -> AsyncIterator[MontySandbox]:
    async with MontySandbox(processes=2) as running:
        yield running


@pytest.mark.parametrize(
    ("code", "result", "stdout"),
    [
        ("1 + 1", 2, ""),
        ("print('hi')", None, "hi\n"),
        ("x = [i * i for i in range(5)]\nx", [0, 1, 4, 9, 16], ""),
        ("def f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\nf(15)", 610, ""),
        ("import math\nround(math.sqrt(2), 3)", 1.414, ""),
        ("import json\njson.dumps({'a': 1})", '{"a": 1}', ""),
        ("import re\nre.findall(r'\\d+', 'a1b22')", ["1", "22"], ""),
        ("sorted({'b': 1, 'a': 2})", ["a", "b"], ""),
        ("print(1)\nprint(2)\n'done'", "done", "1\n2\n"),
        ("```python\nprint(6 * 7)\n```", None, "42\n"),
        ("sum(x for x in range(101))", 5050, ""),
        ("'Hello'[::-1]", "olleH", ""),
        ("", None, ""),
        ("import time\ntime.sleep(30)\n1", 1, ""),
    ],
)
async def test_code_that_works(sandbox: MontySandbox, code: str, result: object, stdout: str) -> None:
    assert await sandbox.run(code, 2) == {"result": result, "stdout": stdout}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero (line 1)"),
        ("x = 1\ny = x + 'a'", "TypeError"),
        ("x =", "cannot be read: SyntaxError"),
        ("foo", "NameError: name 'foo' is not defined"),
        ("import numpy", "ModuleNotFoundError"),
        ("raise ValueError('no\\nlines')", "ValueError: no"),
        ("[][1]", "IndexError"),
        ("x" * 100_001, "longer than 100000 characters"),
    ],
)
async def test_failures_are_told_in_a_sentence(sandbox: MontySandbox, code: str, words: str) -> None:
    with pytest.raises(ToolFailed) as failed:
        await sandbox.run(code, 2)
    assert words in failed.value.message
    assert "\n" not in failed.value.message


async def test_nothing_is_kept_between_runs(sandbox: MontySandbox) -> None:
    await sandbox.run("secret = 42", 2)
    with pytest.raises(ToolFailed, match="not defined"):
        await sandbox.run("secret", 2)


LOOPS = [
    "while True: pass",
    "x = 0\nwhile True: x += 1",
    "sum(range(10**12))",
    "def f():\n    while True:\n        try:\n            pass\n        except Exception:\n            pass\nf()",
    "while True:\n    try:\n        while True: pass\n    except TimeoutError:\n        pass",
    "for i in range(10**12):\n    for j in range(10**12): pass",
    "list(map(lambda x: x, range(10**9)))[0]",
]


@pytest.mark.parametrize("code", LOOPS)
async def test_endless_code_is_stopped(sandbox: MontySandbox, code: str) -> None:
    started = time.perf_counter()
    with pytest.raises((ToolTimedOut, ToolFailed)):
        await sandbox.run(code, 0.3)
    # The limit plus the grace after which the process is killed, plus a busy machine.
    assert time.perf_counter() - started < 3
    assert (await sandbox.run("1", 2))["result"] == 1


GREEDY = [
    "'a' * 10**10",
    "[0] * 10**9",
    "x = 'a'\nwhile True: x += x",
    "x = []\nwhile True: x.append(x * 2)",
    "2 ** 10**9",
    "10 ** 10 ** 10",
    "bytes(10**10)",
    "{i: str(i) * 1000 for i in range(10**8)}",
    "'x'.join(['y' * 10**6] * 100)",
    "('a' * 10**6).replace('a', 'b' * 10**6)",
    "'%1000000000d' % 1",
    "f'{1:>1000000000}'",
    "'a'.ljust(10**10)",
    "list(range(10**10))",
    "def f(): return f()\nf()",
    "f = lambda f: f(f)\nf(f)",
    "eval('(' * 10000 + ')' * 10000)",
    "print('x' * 10**8)",
    "while True: print('x' * 1000)",
    "int('9' * 10**6)",
    "str(7 ** 10**6)",
    "sorted([[i] * 1000 for i in range(10**6)])",
]


@pytest.mark.parametrize("code", GREEDY)
async def test_greedy_code_is_stopped(sandbox: MontySandbox, code: str) -> None:
    started = time.perf_counter()
    with pytest.raises(ToolError):
        await sandbox.run(code, 0.5)
    assert time.perf_counter() - started < 4
    assert (await sandbox.run("1", 2))["result"] == 1


CANARY = "canary-7c1f"
ESCAPES = [
    "open('{path}').read()",
    "open('/etc/passwd').read()",
    "open('{path}', 'w').write('x')",
    "from pathlib import Path\nPath('{path}').read_text()",
    "from pathlib import Path\nPath('/').iterdir()",
    "import os\nos.environ['ERRAND_CANARY']",
    "import os\nos.getenv('ERRAND_CANARY')",
    "import os\nos.system('touch {path}.owned')",
    "import os\nos.listdir('/')",
    "import os\nos.popen('id').read()",
    "import os\nos.kill(1, 9)",
    "import os\nos.fork()",
    "import subprocess\nsubprocess.run(['id'])",
    "import socket\nsocket.create_connection(('127.0.0.1', 80))",
    "import urllib.request\nurllib.request.urlopen('http://127.0.0.1')",
    "import http.client",
    "import ctypes\nctypes.CDLL(None)",
    "import sys\nsys.modules['os']",
    "import sys\nsys._getframe()",
    "import sys\nsys.exit(0)",
    "import importlib\nimportlib.import_module('os')",
    "import builtins\nbuiltins.open('/etc/passwd')",
    "import threading\nthreading.Thread(target=print).start()",
    "import multiprocessing",
    "import gc\ngc.get_objects()",
    "import inspect\ninspect.currentframe()",
    "import pickle\npickle.loads(b'cos\\nsystem\\n(S\"id\"\\ntR.')",
    "import marshal",
    "import signal\nsignal.alarm(1)",
    "import resource",
    "import shutil\nshutil.rmtree('/')",
    "import tempfile\ntempfile.mkdtemp()",
    "__import__('os').system('id')",
    "__builtins__.open('/etc/passwd')",
    "__builtins__['open']('/etc/passwd')",
    "globals()['__builtins__']",
    "().__class__.__bases__[0].__subclasses__()",
    "''.__class__.__mro__[1].__subclasses__()",
    "(lambda: 0).__globals__",
    "(lambda: 0).__code__.replace(co_code=b'')",
    "[].__class__.__base__",
    "type('X', (), {{}}).__subclasses__()",
    "object.__subclasses__()",
    "getattr((), '__cl' + 'ass__').__bases__",
    "'{{0.__class__.__base__}}'.format(())",
    "f'{{().__class__.__base__}}'",
    "def f(): yield\nf().gi_frame.f_back.f_globals",
    "try:\n    1 / 0\nexcept Exception as e:\n    e.__traceback__.tb_frame.f_globals",
    "async def f(): pass\nf().cr_frame.f_globals",
    "exec('import os\\nos.system(\"touch {path}.owned\")')",
    "eval('__import__(\"os\").environ')",
    "compile('import os', 'x', 'exec')",
    "breakpoint()",
    "help()",
    "input()",
    "class A:\n    def __del__(self): open('{path}', 'w')\nA()",
    "class A(str):\n    def __str__(self): return open('{path}').read()\nstr(A())",
    "import asyncio\nasyncio.run(asyncio.create_subprocess_shell('id'))",
    "import json\njson.codecs.builtins.open('/etc/passwd')",
    "import re\nre.sys.modules['os'].environ",
    "import math\nmath.__loader__.load_module('os')",
    "import typing\ntyping.sys.modules",
    "import datetime\ndatetime.sys.modules['os']",
]


@pytest.mark.parametrize("template", ESCAPES)
async def test_escapes(template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERRAND_CANARY", CANARY)
    secret = tmp_path / "secret"
    secret.write_text(CANARY)
    code = template.format(path=secret)
    # A new pool, so that its workers could have inherited the variable.
    async with MontySandbox(processes=1) as sandbox:
        try:
            told = str(await sandbox.run(code, 1))
        except ToolError as error:
            told = error.message
        assert (await sandbox.run("1", 2))["result"] == 1
    assert CANARY not in told
    assert "root:" not in told
    assert "uid=" not in told
    assert secret.read_text() == CANARY
    assert os.listdir(tmp_path) == ["secret"]


async def test_more_runs_than_processes_all_end(sandbox: MontySandbox) -> None:
    results = await asyncio.gather(*(sandbox.run(f"{number} + 1", 2) for number in range(40)))
    assert [result["result"] for result in results] == list(range(1, 41))


async def test_a_sandbox_that_is_not_running_says_so() -> None:
    with pytest.raises(ToolFailed, match="not running"):
        await MontySandbox().run("1", 1)


async def test_inputs_are_variables(sandbox: MontySandbox) -> None:
    inputs = {"name": "Zoë", "items": [1, {"a": None}], "none": None}
    answer = await sandbox.run("print(name)\n[items, none]", 2, inputs)
    assert answer == {"result": [[1, {"a": None}], None], "stdout": "Zoë\n"}
    with pytest.raises(ToolFailed, match="NameError"):
        await sandbox.run("name", 2)


async def test_code_is_read_without_running_it(sandbox: MontySandbox) -> None:
    await sandbox.check("while True: pass")
    await sandbox.check("undefined + 1")
    for wrong in ("1 +", "def f(:", "class"):
        with pytest.raises(ToolFailed, match="cannot be read"):
            await sandbox.check(wrong)
