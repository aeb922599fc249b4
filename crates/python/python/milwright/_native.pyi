from typing import Any, Callable, Mapping

import numpy as np

__version__: str

def forked() -> None: ...

class Model:
    def __init__(
        self,
        path: Any,
        *,
        function: str | None = None,
        threads: int = 0,
        cache: Any | None = None,
        precision: str = "declared",
        memory_limit: int | None = None,
    ) -> None: ...
    @staticmethod
    def from_bytes(
        specification: bytes,
        weights: Mapping[str, bytes],
        *,
        function: str | None = None,
        threads: int = 0,
        precision: str = "declared",
        memory_limit: int | None = None,
    ) -> Model: ...
    @property
    def function(self) -> str: ...
    def predict(
        self, inputs: dict[str, Any], state: State | None = None, timeout: float | None = None
    ) -> dict[str, Any]: ...
    def make_state(self) -> State: ...
    def info(self) -> str: ...
    def loaded(self) -> str: ...
    def structure(self) -> str: ...
    def compile_to(self, path: Any, *, force: bool) -> None: ...

class State:
    """The states of a stateful model, from ``Model.make_state``."""

    @property
    def names(self) -> list[str]:
        """The names of the states."""
    def read(self, name: str) -> np.ndarray:
        """A copy of what a state holds."""
    def write(self, name: str, value: Any) -> None:
        """Replaces what a state holds; the shape has to fit."""

def optimize(
    path: Any,
    output: Any | None,
    *,
    force: bool,
    quantize: str,
    config: str | None,
    target: str,
    target_os: str | None,
    tolerance: float | str | None,
    proof: bool,
    calibrate: bool,
    smallest: bool,
    metric: str,
    max_bytes: int | None,
    plot: Any | None,
    inputs: Any | None,
    fit: str,
    seed: int,
    progress: Callable[[str, int, int], None] | None,
    timeout: float | None,
    memory_limit: int | None,
) -> str: ...
def convert(
    path: Any,
    output: Any | None,
    *,
    force: bool,
    target_os: str | None,
    precision: str,
    sizes: list[tuple[str, str]],
    freeze: dict[str, Any] | None,
    tolerance: float | str | None,
    inputs: Any | None,
    fit: str,
    seed: int,
    threads: int,
    progress: Callable[[str, int, int], None] | None,
    timeout: float | None,
    memory_limit: int | None,
) -> str: ...
def read_text(path: Any) -> str: ...
def weights(path: Any, *, min_elements: int) -> str: ...
def compare(
    a: Any,
    b: Any,
    *,
    inputs: Any | None,
    fit: str,
    function: str | None,
    seed: int,
    samples: int,
    timeout: float | None,
    memory_limit: int | None,
) -> str: ...
def info(path: Any) -> str: ...
def forms(config: str) -> str: ...
