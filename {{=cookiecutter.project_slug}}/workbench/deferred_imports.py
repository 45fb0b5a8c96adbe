"""Lightning is imported without what only `torch.compile` and a few image metrics need.

Importing it imports TorchDynamo, and with it Sympy and a part of Inductor: a third of the time that
torch and Lightning take. It is reached in three ways:
- Lightning asks whether a module is TorchDynamo's `OptimizedModule`;
- the first optimizer has TorchDynamo leave its methods alone, should it ever compile anything;
- torchmetrics imports torchvision for one image metric, and torchvision's operators ask as well.

So `torch._dynamo` answers these questions without being loaded, which it is as soon as anything
else of it is used, and torchmetrics imports torchvision when it uses it.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from threading import RLock
from types import ModuleType
from typing import Any

DYNAMO = "torch._dynamo"
INDUCTOR = "torch._inductor"
# torchmetrics imports torchvision for one metric of images, and torch Triton for its kernels.
UNUSED = ("torchvision", "triton")
# Set by the import system.
IMPORT_NAMES = {"__path__", "__file__", "__cached__"}


@contextmanager
def deferred_imports() -> Iterator[None]:
    """Within the block, import torch and Lightning for the first time."""
    if any(name in sys.modules for name in (DYNAMO, INDUCTOR, *UNUSED)):
        yield
        return
    dynamo, unused = _DynamoFinder(), _UnusedFinder()
    sys.meta_path[:0] = [dynamo, _InductorFinder(), unused]
    try:
        yield
    finally:
        sys.meta_path.remove(unused)
        for name in [name for name, m in sys.modules.items() if isinstance(m, _Unused)]:
            del sys.modules[name]
        dynamo.close()


class OptimizedModule:
    """Stands for TorchDynamo's class as long as it has no instances."""


class _Dynamo(ModuleType):
    """`torch._dynamo` before and while it is loaded."""

    def __init__(self, name: str, finder: "_DynamoFinder") -> None:
        super().__init__(name)
        self.__dict__.update(_finder=finder, graph_break=_graph_break, disable=finder.disable)
        self.__dict__["OptimizedModule"] = OptimizedModule

    def __getattr__(self, name: str) -> Any:
        finder: _DynamoFinder = self.__dict__["_finder"]
        # The import system asks for names with underscores, which it then sets.
        if name.startswith("__") or not finder.load():
            raise AttributeError(f"module {DYNAMO!r} has no attribute {name!r}")
        return getattr(self, name)


def _graph_break(*args: Any, **options: Any) -> None:
    """There is no graph to break as long as nothing is compiled."""


class _DynamoFinder(MetaPathFinder, Loader):
    """Finds `torch._dynamo`, and loads it once it is needed."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._is_loading = False
        self._is_open = True
        self._left_alone: list[Any] = []
        self._module: ModuleType | None = None
        self._spec: ModuleSpec | None = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the module, or one within it, for which it has to be loaded first."""
        if fullname == DYNAMO and self._spec is None:
            self._spec = PathFinder.find_spec(fullname, path, target)
            if self._spec is None:
                return None
            spec = ModuleSpec(fullname, self, origin=self._spec.origin, is_package=True)
            spec.submodule_search_locations = self._spec.submodule_search_locations
            return spec
        if fullname.startswith(f"{DYNAMO}.") and self.load() and fullname in sys.modules:
            return ModuleSpec(fullname, _Found(sys.modules[fullname]))
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module that is loaded later."""
        self._module = _Dynamo(spec.name, self)
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """Not yet."""

    def disable(self, fn: Any = None, recursive: bool = True, **options: Any) -> Any:
        """Have TorchDynamo not compile a function, should it be loaded.

        torch itself asks again for each call of its functions. Others ask while they are imported.
        """
        if fn is not None and options == {"wrapping": False}:
            self._left_alone.append(fn)
            return fn
        if not (self._is_open and callable(fn)):
            self.load()
            return import_module(DYNAMO).disable(fn, recursive, **options)
        disabled: list[Callable[..., Any]] = []

        @wraps(fn)
        def call(*args: Any, **keywords: Any) -> Any:
            if isinstance(self._module, _Dynamo):
                return fn(*args, **keywords)
            if not disabled:
                disabled.append(import_module(DYNAMO).disable(fn, recursive, **options))
            return disabled[0](*args, **keywords)

        return call

    def close(self) -> None:
        """From now on, only torch itself gets an answer without loading the module."""
        self._is_open = False
        if self._module is not None:
            self._module.__dict__.pop("OptimizedModule", None)

    def load(self) -> bool:
        """Load the module; False if this thread is doing so already."""
        with self._lock:
            module, spec = self._module, self._spec
            if self._is_loading or module is None or spec is None or spec.loader is None:
                return False
            if not isinstance(module, _Dynamo):
                return True
            self._is_loading = True
            for name in ("graph_break", "disable", "OptimizedModule"):
                module.__dict__.pop(name, None)
            module.__spec__, module.__loader__ = spec, spec.loader
            module.__dict__.update(__file__=spec.origin, __cached__=spec.cached)
            try:
                spec.loader.exec_module(module)
            finally:
                self._is_loading = False
            module.__class__ = ModuleType  # type: ignore[assignment]
            sys.meta_path.remove(self)
            self._hand_over(module)
            return True

    def _hand_over(self, module: ModuleType) -> None:
        """Replace what was answered before the module was loaded."""
        del module.__dict__["_finder"]
        for fn in self._left_alone:
            # torch then asks again.
            fn.__dict__.pop("__dynamo_disable", None)
        for name, user in list(sys.modules.items()):
            asked = getattr(user, "__dict__", {}).get("OptimizedModule") is OptimizedModule
            if asked and name != __name__:
                user.__dict__["OptimizedModule"] = module.__dict__["OptimizedModule"]


class _Inductor(ModuleType):
    """Stands for `torch._inductor`, or for its config, of which it keeps what is set."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        _InductorFinder.remove()
        return getattr(import_module(self.__name__), name)


class _InductorFinder(MetaPathFinder, Loader):
    """Finds `torch._inductor` and its config, which become real when something else is needed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the package or its config."""
        if fullname in (INDUCTOR, f"{INDUCTOR}.config"):
            return ModuleSpec(fullname, self, is_package=fullname == INDUCTOR)
        if fullname.startswith(f"{INDUCTOR}."):
            self.remove()
            import_module(INDUCTOR)
            if fullname in sys.modules:
                return ModuleSpec(fullname, _Found(sys.modules[fullname]))
            return PathFinder.find_spec(fullname, sys.modules[INDUCTOR].__path__)
        return None

    @classmethod
    def remove(cls) -> None:
        """Import the package and set its config as it has been set so far."""
        finder = next((finder for finder in sys.meta_path if isinstance(finder, cls)), None)
        if finder is None:
            return
        sys.meta_path.remove(finder)
        sys.modules.pop(INDUCTOR, None)
        config = sys.modules.pop(f"{INDUCTOR}.config", None)
        import_module(INDUCTOR)
        if config is not None:
            real = import_module(f"{INDUCTOR}.config")
            for name in config.__dict__.keys() - ModuleType("").__dict__.keys() - IMPORT_NAMES:
                setattr(real, name, getattr(config, name))

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module that knows only what is set."""
        return _Inductor(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Not yet."""


class _Found(Loader):
    """Gives the import system a module that has been imported meanwhile."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._spec = module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module."""
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """Undo what the import system changed."""
        module.__spec__ = self._spec


class _Unused(ModuleType):
    """Stands for a module while torch and Lightning are imported."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return _Later(self.__name__, name)


class _UnusedFinder(MetaPathFinder, Loader):
    """Finds the modules of `UNUSED`, as far as they are installed, without importing them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module of one of the packages."""
        package = fullname.partition(".")[0]
        if package not in UNUSED or PathFinder.find_spec(package) is None:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module of which everything is imported later."""
        return _Unused(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Not at all."""


class _Later:
    """A module, class or function that is imported when it is used."""

    def __init__(self, module: str, name: str) -> None:
        self.__dict__.update(_module=module, _name=name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found(), name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._found()(*args, **options)

    def __instancecheck__(self, instance: object) -> bool:
        # As long as the module is not imported, its classes have no instances.
        module = sys.modules.get(self._module)
        is_imported = module is not None and not isinstance(module, _Unused)
        return is_imported and isinstance(instance, self._found())

    def _found(self) -> Any:
        return getattr(import_module(self._module), self._name)
