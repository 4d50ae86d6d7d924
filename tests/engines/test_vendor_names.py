"""The walk that finds uses of TensorRT and pycuda: what it reports, and that it loses sight of nothing."""

from __future__ import annotations

import re
from textwrap import indent

import pytest

from tests.engines.vendor_names.api import Api, read_api
from tests.engines.vendor_names.facts import Findings
from tests.engines.vendor_names.walk import find_uses

START = """
import importlib, queue
from typing import Any
import pycuda.driver as cuda
import tensorrt as trt

class Monitor(trt.ILogger):
    def log(self, severity: Any, message: str) -> None: pass

def use(known: bool):
    logger = Monitor()
    builder = trt.Builder(logger)
    config = builder.create_builder_config()
    engine = trt.Runtime(logger).deserialize_cuda_engine(b"")
    context = engine.create_execution_context()
    flag = trt.BuilderFlag
"""
FP16 = "builder.platform_has_fast_fp16"
HAS_FP16 = 'hasattr(builder, "platform_has_fast_fp16")'


@pytest.fixture(scope="module")
def api() -> Api:
    return read_api()


def find_in(snippet: str, api: Api, more: str = "") -> Findings:
    return find_uses({"snippet": START + indent(snippet, "    ") + "\n" + more}, api)


def assert_problems(findings: Findings, problem: str | None) -> None:
    """Check that a problem is among the findings; None: that there is none at all."""
    text = "\n".join(sorted(findings.problems))
    if problem is None:
        assert text == ""
    else:
        assert re.search(problem, text), text


@pytest.mark.parametrize(
    "snippet",
    [
        f"if {HAS_FP16}:\n    {FP16}",
        f"if known and {HAS_FP16} and {FP16}:\n    {FP16}",
        f"if not {HAS_FP16} or {FP16}:\n    pass",
        f"{FP16} if {HAS_FP16} else None",
        f"None if not {HAS_FP16} else {FP16}",
        f"if not {HAS_FP16}:\n    return\n{FP16}",
        f"if not {HAS_FP16} or known:\n    raise OSError\n{FP16}",
        f"if not {HAS_FP16}:\n    pass\nelif known:\n    {FP16}\nelse:\n    {FP16}",
        f"assert {HAS_FP16}\n{FP16}",
        f"print({HAS_FP16} and {FP16})",
        f"print(not {HAS_FP16} or {FP16})",
        f"for step in (1, 2):\n    if not {HAS_FP16}:\n        continue\n    {FP16}",
        f"try:\n    if not {HAS_FP16}:\n        return\nfinally:\n    print()\n{FP16}",
        f"[{FP16} for step in (1, 2) if {HAS_FP16}]",
        f"while {HAS_FP16}:\n    {FP16}",
        f"if {HAS_FP16}:\n    (lambda: {FP16})()",
        'getattr(builder, "platform_has_fast_fp16", False)',
        'if hasattr(flag, "FP16"):\n    config.set_flag(flag.FP16)',
        'if hasattr(flag, "FP16"):\n    config.set_flag(trt.BuilderFlag.FP16)',
        "if hasattr(config, 'progress_monitor'):\n    config.progress_monitor = None",
        "assert logger.ERROR != trt.ILogger.WARNING",
        "engine.get_tensor_dtype('image').name.lower()",
        "trt.DataType.FLOAT.name.lower()",
        "first, second = builder, engine\nfirst.create_network(0)\nsecond.num_layers",
        "with trt.Builder(logger) as other:\n    other.create_network(0)",
        "found = importlib.import_module('tensorrt')\nfound.Builder(logger).create_network(0)",
        "cuda.Device(0).name().lower()",
        "host = cuda.pagelocked_empty(4, 'u1')\nhost.fill(0)\nhost.base.get_device_pointer()",
        "int(cuda.mem_alloc(4))",
        "try:\n    cuda.init()\nexcept cuda.MemoryError as error:\n    print(error)",
    ],
)
def test_correct_code_passes(api: Api, snippet: str) -> None:
    assert_problems(find_in(snippet, api), None)


@pytest.mark.parametrize(
    ("snippet", "problem"),
    [
        # Names that are not everywhere.
        (FP16, r"platform_has_fast_fp16 is not in tensorrt 11\.4\.0\.106"),
        ("config.int8_calibrator = None", r"int8_calibrator is not in tensorrt 11"),
        ("engine.num_bindings", r"num_bindings is not in tensorrt 10\.3\.0, .*tensorrt 11"),
        ("context.execute_async_v2([], 0)", "execute_async_v2 is not in"),
        ("config.progress_monitor = None", r"progress_monitor is not in tensorrt 8\.6\.1$"),
        ("config.set_flag(flag.INT8)", "BuilderFlag.INT8 is not in tensorrt 11"),
        ("class Progress(trt.IProgressMonitor):\n    pass", r"IProgressMonitor is not in tensorrt 8\.6\.1"),
        # Names that are nowhere.
        ("builder.create_netwrok(0)", "no version has tensorrt.Builder.create_netwrok"),
        ("trt.Bulider(logger)", "no version has tensorrt.Bulider"),
        ("flag.FP61", "no version has tensorrt.BuilderFlag.FP61"),
        ("trt.ILogger.FATAL", "no version has tensorrt.ILogger.FATAL"),
        ("config.workspace = 1", "no version has tensorrt.IBuilderConfig.workspace"),
        ("getattr(engine, 'num_inputs')", "no version has tensorrt.ICudaEngine.num_inputs"),
        ("from tensorrt import Bulider", "no version has tensorrt.Bulider"),
        ("cuda.Device(0).naem()", "no version has pycuda.driver.Device.naem"),
        ("cuda.Stream().handel", "no version has pycuda.driver.Stream.handel"),
        ("cuda.pagelocked_emtpy(1, 'u1')", "no version has pycuda.driver.pagelocked_emtpy"),
        ("cuda.pagelocked_empty(1, 'u1').base.address", "no version has .*PagelockedHostAllocation.address"),
        ("cuda.pagelocked_empty(1, 'u1').bytes", "no version has numpy.ndarray.bytes"),
        ("int(cuda.Stream())", "no version has pycuda.driver.Stream.__int__"),
        ("with cuda.Device(0).retain_primary_context():\n    pass", "no version has .*Context.__enter__"),
        # Questions that do not cover the use, or are none.
        (f"if not {HAS_FP16}:\n    {FP16}", "platform_has_fast_fp16 is not in tensorrt 11"),
        (f"if {HAS_FP16}:\n    pass\n{FP16}", "platform_has_fast_fp16 is not in tensorrt 11"),
        (f"if {HAS_FP16} or known:\n    {FP16}", "platform_has_fast_fp16 is not in tensorrt 11"),
        (f"{FP16} and {HAS_FP16}", "platform_has_fast_fp16 is not in tensorrt 11"),
        (f"if not {HAS_FP16}:\n    print()\n{FP16}", "platform_has_fast_fp16 is not in tensorrt 11"),
        (f"try:\n    assert {HAS_FP16}\nexcept AssertionError:\n    pass\n{FP16}", "fast_fp16 is not in"),
        (f"while known:\n    break\nelse:\n    return\n{FP16}", "platform_has_fast_fp16 is not in"),
        (f"while {HAS_FP16}:\n    break\n{FP16}", "platform_has_fast_fp16 is not in tensorrt 11"),
        ("if hasattr(trt, 'IProgressMonitor'):\n    flag.FP16", "FP16 is not in tensorrt 11"),
        ("if hasattr(flag, 'FP61'):\n    pass", "no version has tensorrt.BuilderFlag.FP61, which is asked"),
        ("if hasattr(engine, 'FP16'):\n    flag.FP16", "no version has tensorrt.ICudaEngine.FP16, which is"),
        ("if hasattr(flag, 'TF32'):\n    flag.TF32", "every version that comes here has .*TF32"),
        (f"if {HAS_FP16}:\n    if {HAS_FP16}:\n        pass", "every version that comes here has"),
        (f"if not {HAS_FP16}:\n    if {HAS_FP16}:\n        pass", "no version that comes here has"),
        ("getattr(engine, 'num_io_tensors', 0)", "every version that comes here has"),
        # Objects that nobody can tell.
        ("builder.get_plugin_registry().plugin_creator_list", r"get_plugin_registry\(\) is or returns: \."),
        ("engine.num_layers.real", "nothing tells what tensorrt.ICudaEngine.num_layers is or returns"),
        ("name = known\ngetattr(builder, name)", r"getattr\(builder, name\) is not followed"),
        ("trt.BuilderFlag['FP16']", "is not followed"),
        ("vars(trt)", "is not followed"),
        ("min(engine, engine).num_layers", r"nothing tells what min\(engine, engine\) is"),
        ("importlib.import_module(str(known)).Builder", r"nothing tells what importlib\.import_module"),
        ("([engine] * 2)[0].num_layers", "nothing tells what .* is or returns"),
        ("engine[0].num_layers", r"nothing tells what engine\[0\]"),
        ("', '.join(engine).num_layers", r"nothing tells what ', '\.join"),
        ("def inner(thing: Any):\n    thing.num_layers", "nothing tells what thing is"),
        ("def inner(make: Any):\n    make().num_layers", r"nothing tells what make\(\) is"),
        ("match engine:\n    case None:\n        pass", "a Match is not followed"),
        # Ways by which an object comes.
        ("alias = engine\nalias.num_bindings", "num_bindings is not in"),
        ("first, second = builder, engine\nsecond.num_bindings", "num_bindings is not in"),
        ("for one in [engine]:\n    one.num_bindings", "num_bindings is not in"),
        ("first, second = [builder, engine]\nsecond.num_bindings", "ICudaEngine.num_bindings is not in"),
        ("list([engine])[0].num_bindings", "num_bindings is not in"),
        ("dict(a=engine)['a'].num_bindings", "num_bindings is not in"),
        ("for _, one in enumerate([engine]):\n    one.num_bindings", "num_bindings is not in"),
        ("(None if known else engine).num_bindings", "num_bindings is not in"),
        ("{'a': engine}['a'].num_bindings", "num_bindings is not in"),
        ("kept = {}\nkept['a'] = engine\nkept.get('a').num_bindings", "num_bindings is not in"),
        ("kept = []\nkept.append(engine)\nkept[0].num_bindings", "num_bindings is not in"),
        ("kept = [builder]\nkept.append(engine)\nkept[0].num_bindings", "ICudaEngine.num_bindings is not"),
        ("kept = queue.Queue()\nkept.put(engine)\nkept.get().num_bindings", "num_bindings is not in"),
        ("kept = queue.Queue()\nkept.engine = engine\nkept.engine.num_bindings", "num_bindings is not in"),
        ("try:\n    pass\nexcept cuda.Error as error:\n    error.number", "no version has .*Error.number"),
        ("class Own:\n    engine: int = 0\n    def get(self): engine.num_bindings", "num_bindings is not in"),
        ("def inner(number=engine.num_bindings): pass", "num_bindings is not in"),
        ("(engine if known else None).num_bindings", "num_bindings is not in"),
        ("(known and engine).num_bindings", "num_bindings is not in"),
        ("if found := engine:\n    found.num_bindings", "num_bindings is not in"),
        ("with trt.Runtime(logger) as runtime:\n    runtime.num_engines", "no version has .*num_engines"),
        ("def inner():\n    return engine.num_bindings\ninner()", "num_bindings is not in"),
        ("def inner():\n    yield engine\nfor one in inner():\n    one.num_bindings", "num_bindings is not"),
        ("(lambda: engine.num_bindings)()", "num_bindings is not in"),
        ("print(f'{engine.num_bindings}')", "num_bindings is not in"),
        ("del engine.num_bindings", "num_bindings is not in"),
        ("engine.num_bindings += 1", "num_bindings is not in"),
    ],
)
def test_a_mistake_is_found(api: Api, snippet: str, problem: str) -> None:
    assert_problems(find_in(snippet, api), f"(?m){problem}")


HOLDER = """
class Holder:
    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._made: Any = None
    @property
    def engine(self) -> Any:
        return self._engine
    def get(self) -> Any:
        return self._engine
    @staticmethod
    def same(engine: Any) -> Any:
        return engine
    @classmethod
    def make(cls, engine: Any) -> Any:
        return cls(engine)
@contextmanager
def held(engine: Any) -> Iterator[Any]:
    yield engine
@dataclass
class Record:
    engine: Any
    engines: dict[str, Any]
def count(engine: Any, *, number: int = 0) -> int:
    return engine.num_bindings
def count_all(*engines: Any) -> int:
    return engines[0].num_bindings
def _fp16(builder: Any) -> bool:
    return builder.platform_has_fast_fp16
def mysterious(found: Any) -> int:
    return found.num_layers
"""


@pytest.mark.parametrize(
    ("snippet", "problem"),
    [
        ("Holder(engine)._engine.num_bindings", "num_bindings is not in"),
        ("Holder(engine).engine.num_bindings", "num_bindings is not in"),
        ("Holder(engine).get().num_bindings", "num_bindings is not in"),
        ("Holder.same(engine).num_bindings", "num_bindings is not in"),
        ("Holder(None).same(engine).num_bindings", "num_bindings is not in"),
        ("Holder.make(engine).engine.num_bindings", "num_bindings is not in"),
        ("with held(engine) as one:\n    one.num_bindings", "num_bindings is not in"),
        ("Holder(None)._made.num_layers", r"nothing tells what Holder\(None\)\._made is"),
        ("kept = Holder(None)\nkept._made = engine\nkept._made.num_bindings", "num_bindings is not in"),
        ("Record(engine, {}).engine.num_bindings", "num_bindings is not in"),
        ("Record(engines={'a': engine}).engines['a'].num_bindings", "num_bindings is not in"),
        ("Record(*[engine, {}]).engine.num_bindings", "num_bindings is not in"),
        ("count(**{'engine': engine})", "num_bindings is not in"),
        ("count_all(builder, engine)", "ICudaEngine.num_bindings is not in"),
        ("count(engine)", "num_bindings is not in"),
        ("count(engine=engine)", "num_bindings is not in"),
        ("count(*[engine])", "num_bindings is not in"),
        ("_fp16(builder)", "platform_has_fast_fp16 is not in tensorrt 11"),
        (f"if {HAS_FP16}:\n    _fp16(builder)\nelse:\n    _fp16(builder)", "fast_fp16 is not in tensorrt 11"),
        (f"if {HAS_FP16}:\n    _fp16(builder)\nkept = [_fp16]", "fast_fp16 is not in tensorrt 11"),
        ("", "nothing tells what found is"),
        ("def inner(thing: Any):\n    mysterious(thing)", "nothing tells what is handed on as found"),
    ],
)
def test_objects_are_followed_through_our_own_code(api: Api, snippet: str, problem: str) -> None:
    assert_problems(find_in(snippet, api, HOLDER), problem)


def test_a_private_function_is_used_where_it_is_called(api: Api) -> None:
    """As far as the question goes that was asked by whoever calls it."""
    helper = "def _fp16(builder: Any) -> bool:\n    return builder.platform_has_fast_fp16\n"
    assert_problems(find_in(f"if {HAS_FP16}:\n    _fp16(builder)", api, helper), None)
    uncalled = "def _fp16():\n    return trt.BuilderFlag.FP16\n"
    assert_problems(find_in("pass", api, uncalled), "FP16 is not in tensorrt 11")


def test_a_private_property_is_used_where_it_is_read(api: Api) -> None:
    own = """
class Own:
    def __init__(self) -> None:
        self._builder = trt.Builder(None)
    @property
    def _fp16(self) -> bool:
        return self._builder.platform_has_fast_fp16
    def fp16(self) -> bool:
        return hasattr(self._builder, "platform_has_fast_fp16") and self._fp16
"""
    assert_problems(find_in("pass", api, own), None)


@pytest.mark.parametrize("annotation", ["list[Own]", "Own | None", "None | Own", "'Own'", "dict[str, Own]"])
def test_annotations_are_believed(api: Api, annotation: str) -> None:
    own = "class Own:\n    def __init__(self): self.engine = trt.Runtime(None).deserialize_cuda_engine(b'')\n"
    element = "owned[0]" if "[" in annotation else "owned"
    user = f"def count(owned: {annotation}):\n    return {element}.engine.num_bindings\n"
    assert_problems(find_in("pass", api, own + user), "ICudaEngine.num_bindings is not in")


def test_what_has_a_plain_type_is_no_vendors(api: Api) -> None:
    named = (
        "@dataclass\nclass Named:\n    text: str\n"
        "def read(content: Any) -> str:\n    return Named(content).text.strip()\n"
    )
    assert_problems(find_in("pass", api, named), None)


@pytest.mark.parametrize(
    ("methods", "problem"),
    [
        (
            "def log(self, severity: Any, message: str) -> None: self.count()",
            "no version has .*ILogger.count",
        ),
        ("def log(self, severity: Any, message: str) -> None: super().lgo()", "no version has .*ILogger.lgo"),
        ("def write(self, severity: Any, message: str) -> None: pass", "ILogger.log is not overridden"),
        ("def write(self) -> None: pass\n    def log(self) -> None: pass", "write overrides nothing"),
        ("def log(self, severity: Any) -> None: severity.value", "nothing tells what severity is"),
    ],
)
def test_a_subclass_is_held_to_its_base(api: Api, methods: str, problem: str) -> None:
    assert_problems(find_in("pass", api, f"class Own(trt.ILogger):\n    {methods}\n"), problem)


def test_what_is_learnt_late_leaves_no_doubt_behind(api: Api) -> None:
    """A parameter's call comes after its uses here: they are judged by what is known in the end."""
    sources = {
        "ours.early": (
            "import tensorrt\nfrom ours.late import same\n"
            "def reason(parser: Any) -> str:\n    return parser.get_error(0).desc().strip()\n"
            "def run(make: Any) -> str:\n    text = make()\n    return text.strip()\n"
            "def build() -> None:\n    made = same(tensorrt.Builder(None))\n    made.create_network(0)\n"
        ),
        "ours.late": (
            "import tensorrt\nfrom ours.early import reason, run\n"
            "def same(thing: Any) -> Any: return thing\n"
            "def text() -> str: return ''\n"
            "def use(): reason(tensorrt.OnnxParser(None, None))\n"
            "def start(): run(text)\n"
        ),
    }
    assert_problems(find_uses(sources, api), None)


def test_modules_are_followed_into_each_other(api: Api) -> None:
    sources = {
        "ours.made": "import tensorrt\ndef make(): return tensorrt.Builder(None)\n",
        "ours.used": "from ours.made import make\ndef use(): make().create_netwrok()\n",
        "ours.whole": "from ours import made\ndef use(): made.make().create_bulider()\n",
    }
    assert {problem.partition(":")[0] for problem in find_uses(sources, api).problems} == {
        "ours.used",
        "ours.whole",
    }
