"""What a caller sets of ONNX Runtime -> its SessionOptions and provider options, each known to it or refused.

provider_options {"cuda": {"device_id": "1"}}     session_options {"intra_op_num_threads": 2, "session.x": "1"}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnxact.errors import UsageError

# What a check sets itself: an own value would change what is compared, or where it is looked up.
_RESERVED = {
    "graph_optimization_level": "a check runs with optimisation off and on",
    "log_severity_level": "errors are reported, not logged",
    "enable_profiling": "a check profiles where it needs to",
    "profile_file_prefix": "a check profiles where it needs to",
    "optimized_model_filepath": "a check writes no models",
    "session.record_ep_graph_assignment_info": "a check records it",
    "session.model_external_initializers_file_folder_path": "it follows from where the model is",
}
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


@dataclass(frozen=True)
class RuntimeOptions:
    """How ONNX Runtime is set up. Provider options are by short provider name.

    `tf32` allows CUDA's TensorFloat-32, which keeps 10 of the 23 bits of a float32's fraction in products.
    """

    provider_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    session_options: Mapping[str, Any] = field(default_factory=dict)
    tf32: bool = False

    def of_provider(self, name: str) -> dict[str, str]:
        """The options of one provider, TF32 among them where it is CUDA."""
        tf32 = {"use_tf32": "1" if self.tf32 else "0"} if name == "cuda" else {}
        return {**tf32, **self.provider_options.get(name, {})}

    @property
    def uses_tf32(self) -> bool:
        """Whether CUDA may use TF32."""
        return self.of_provider("cuda")["use_tf32"].lower() in _TRUE


def parse_provider_options(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    """["cuda:device_id=1"] -> {"cuda": {"device_id": "1"}}. Raises UsageError for anything else."""
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        provider, colon, name = key.partition(":")
        if not (equals and colon and provider.strip() and name.strip()):
            raise UsageError(f"provider option {text!r}: write it as PROVIDER:NAME=VALUE, such as cuda:device_id=1")
        options = found.setdefault(provider.strip(), {})
        if name.strip() in options:
            raise UsageError(f"provider option {text!r}: {name.strip()} is given twice")
        options[name.strip()] = value.strip()
    return found


def parse_session_options(texts: Sequence[str]) -> dict[str, str]:
    """["intra_op_num_threads=2"] -> {"intra_op_num_threads": "2"}. Raises UsageError for anything else."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (equals and name):
            raise UsageError(f"session option {text!r}: write it as NAME=VALUE, such as intra_op_num_threads=2")
        if name in found:
            raise UsageError(f"session option {text!r}: {name} is given twice")
        found[name] = value
    return found


def plain_options(options: Mapping[str, Any]) -> dict[str, str]:
    """Provider options as ONNX Runtime takes them, texts; bools are "1" and "0"."""
    return {str(key): str(int(value)) if isinstance(value, bool) else str(value) for key, value in options.items()}


def set_session_options(target: Any, chosen: Mapping[str, Any]) -> None:
    """Set attributes of an onnxruntime.SessionOptions by name, and config entries (their names hold a dot).

    Texts are read as the attribute's type: a whole number, a bool, an enumeration's member by name. ONNX Runtime takes
    any config entry and ignores what it does not know. Raises UsageError for an unknown name, one that a check sets
    itself, or a value that does not fit.
    """
    for name, value in chosen.items():
        if name in _RESERVED:
            raise UsageError(f"session option {name} cannot be given: {_RESERVED[name]}")
        try:
            _set_one(target, name, value)
        except (TypeError, ValueError, RuntimeError) as error:
            line = str(error).strip().splitlines()[0]
            reason = f"it does not take {value!r}" if "incompatible function arguments" in line else line
            raise UsageError(f"session option {name}: {reason}") from error


def _set_one(target: Any, name: str, value: Any) -> None:
    if "." in name:
        target.add_session_config_entry(name, plain_options({name: value})[name])
        return
    known = _attributes(target)
    if name not in known:
        listed = ", ".join(sorted(known - _RESERVED.keys()))
        raise UsageError(
            f"session option {name}: ONNX Runtime has none of this name; known: {listed}; a config entry has a dot"
        )
    setattr(target, name, _converted(getattr(target, name), value) if isinstance(value, str) else value)


def _attributes(target: Any) -> set[str]:
    names = (name for name in dir(target) if not name.startswith("_"))
    return {name for name in names if not callable(getattr(target, name))}


def _converted(current: Any, text: str) -> Any:
    """`text` as a value of the type that the attribute has now."""
    if isinstance(current, bool):
        if text.lower() not in _TRUE | _FALSE:
            raise ValueError(f"{text!r} is neither true nor false")
        return text.lower() in _TRUE
    if isinstance(current, int):
        return int(text)
    members = getattr(type(current), "__members__", None)
    if members is None:
        return text
    if text not in members:
        raise ValueError(f"{text!r} is none of {', '.join(members)}")
    return members[text]
