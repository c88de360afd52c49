"""The developer's modules: importing them, finding agents in them, importing them again when they change.

Knows nothing of engines and links; `amx dev` puts the two together.
"""

from __future__ import annotations

import functools
import importlib
import os
import site
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

# The name under which the SDK's class decorators leave their note.
_AGENT_NOTE = "__amx_agent__"

# Modification time in nanoseconds and size in bytes of a source file; None: it is not there.
FileState = tuple[int, int] | None


class ModuleError(Exception):
    """A module cannot be used. The message says which, why, and what to do."""


class AgentModules:
    """Modules named on the command line, and everything of the developer's that they import."""

    def __init__(self, names: Iterable[str], folder: Path | None = None) -> None:
        """names: `package.module`, or a path of a .py file. folder: where they are looked for first; the working
        directory by default.
        """
        self.names = tuple(names)
        """As they were given."""
        self.folder = (folder or Path.cwd()).resolve()
        """Where they are looked for first."""
        # Compiled files are told apart by second and size: two changes within a second would look like none.
        sys.dont_write_bytecode = True
        if str(self.folder) not in sys.path:
            sys.path.insert(0, str(self.folder))
        self._names = [self._module_name(name) for name in self.names]

    def load(self) -> list[object]:
        """Imports the modules and returns their agents, in the order they are written.

        Agents are the decorated classes that the modules hold; where they hold an object of such a class, the object
        in its place. Raises ModuleError; modules that were imported before then stay as they were.
        """
        agents: list[object] = []
        for name in self._names:
            try:
                module = importlib.import_module(name)
            except ModuleNotFoundError as error:
                if error.name is not None and not name.startswith(error.name):
                    raise ModuleError(f"'{name}' imports '{error.name}', which is not installed") from error
                raise ModuleError(
                    f"there is no module '{name}' in {self.folder} nor on Python's path;"
                    " name it as in an import statement, or by its file"
                ) from error
            except Exception as error:
                raise ModuleError(f"'{name}' cannot be imported: {type(error).__name__}: {error}") from error
            found = _agents_of(module)
            if not found:
                raise ModuleError(f"'{name}' holds no agent; decorate a class in it with @Agent")
            agents.extend(agent for agent in found if not _holds(agents, agent))
        return agents

    def reload(self) -> list[object]:
        """Like `load`, from the files as they are now: every module of the developer's is imported anew.

        Raises ModuleError, and then puts the old modules back.
        """
        old = {name: module for name, module in sys.modules.items() if self._owns(module)}
        for name in old:
            del sys.modules[name]
        importlib.invalidate_caches()
        try:
            return self.load()
        except ModuleError:
            for name in [name for name, module in sys.modules.items() if self._owns(module)]:
                del sys.modules[name]
            sys.modules.update(old)
            raise

    def files(self) -> set[str]:
        """Source files of the developer's modules that are imported now, as real paths."""
        return {
            os.path.realpath(module.__file__)
            for module in list(sys.modules.values())
            if self._owns(module) and module.__file__
        }

    def states(self, also: Iterable[str] = ()) -> dict[str, FileState]:
        """The state of each of `files`, and of the files `also`."""
        return {file: _state(file) for file in {*self.files(), *also}}

    def folders(self) -> set[Path]:
        """Folders to watch for changes: those that hold `files`, without folders inside them."""
        folders = {Path(file).parent for file in self.files()}
        return {folder for folder in folders if not any(other in folder.parents for other in folders)}

    def _owns(self, module: ModuleType | None) -> bool:
        """Whether a module is the developer's: named on the command line, or in the same folder tree."""
        file = getattr(module, "__file__", None)
        if module is None or not file or module.__name__ == "__main__":
            return False
        if module.__name__ in self._names:
            return True
        # The engine itself may be run from the folder it is developed in.
        if module.__name__.partition(".")[0] in ("amx", "amx_engine", "amx_server"):
            return False
        return _is_developed(file, self.folder)

    def _module_name(self, text: str) -> str:
        if not text.endswith(".py"):
            return text
        path = Path(text).resolve()
        if not path.is_file():
            raise ModuleError(f"there is no file {text}")
        # The topmost folder that is not a package is where Python looks for it.
        parts = [path.stem] if path.stem != "__init__" else []
        folder = path.parent
        while (folder / "__init__.py").is_file():
            parts.insert(0, folder.name)
            folder = folder.parent
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        return ".".join(parts)


def _state(file: str) -> FileState:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _agents_of(module: ModuleType) -> list[object]:
    values = list(vars(module).values())
    instances = [value for value in values if not isinstance(value, type) and _AGENT_NOTE in vars(type(value))]
    agents: list[object] = []
    for value in values:
        decorated = isinstance(value, type) and _AGENT_NOTE in vars(value)
        represented = any(type(instance) is value for instance in instances)
        if (_holds(instances, value) or (decorated and not represented)) and not _holds(agents, value):
            agents.append(value)
    return agents


def _holds(values: list[object], value: object) -> bool:
    """Whether `value` itself is among `values`; what it equals is its own business."""
    return any(value is other for other in values)


@functools.cache
def _is_developed(file: str, folder: Path) -> bool:
    """Whether a source file lies in `folder` and belongs to no installed package.

    Remembered: it is asked about every module again and again, and hundreds of them may be in `folder`, in a `.venv`.
    """
    path = Path(file).resolve()
    return folder in path.parents and not any(root in path.parents for root in _installed_folders())


@functools.cache
def _installed_folders() -> set[Path]:
    """Where installed packages live; nobody develops there."""
    folders = {*site.getsitepackages(), site.getusersitepackages(), *sysconfig.get_paths().values()}
    return {Path(folder).resolve() for folder in folders if folder} - {Path(sys.prefix).resolve()}
