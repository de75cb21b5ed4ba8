"""ONNX file -> its accuracy on the test images of digits_test.npz, by ONNX Runtime on the CPU.

    python models/accuracy.py MODEL.onnx [MODEL.onnx ...]

Needs numpy and onnxruntime, not torch. A mistake ends it with one sentence and exit code 1.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

TEST_SET = Path(__file__).with_name("digits_test.npz")
CLASSES = 10


def main() -> None:
    """Print one line for each model."""
    parser = argparse.ArgumentParser(description="Print the accuracy of models on the digits test set.")
    parser.add_argument("models", nargs="+", metavar="MODEL.onnx")
    try:
        for model in parser.parse_args().models:
            print(f"{accuracy(model):.2%}  {model}")
    except ImportError as error:
        sys.exit(f"error: {error}: pip install 'onnxact[cpu]'")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def accuracy(model_path: str | Path) -> float:
    """Share of the test images whose largest logit is that of their label.

    Raises OSError for a missing file and ValueError for one that is not a model of the digits.
    """
    test_set = np.load(TEST_SET)
    predicted = logits(model_path, test_set["images"]).argmax(axis=1)
    return float(np.mean(predicted == test_set["labels"]))


def logits(model_path: str | Path, images: np.ndarray) -> np.ndarray:
    """Images, float32 [N, 1, 8, 8] -> logits, float32 [N, 10], by a model's only input and output, however called.

    Raises as `accuracy` does.
    """
    if not Path(model_path).is_file():
        raise FileNotFoundError(f"{model_path}: no such file")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is in the exception
    try:
        session = onnxruntime.InferenceSession(model_path, options, providers=["CPUExecutionProvider"])
        (images_in,), (logits_out,) = session.get_inputs(), session.get_outputs()
        (result,) = session.run([logits_out.name], {images_in.name: images})
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        reason = " ".join(str(error).split())
        raise ValueError(f"{model_path}: ONNX Runtime cannot run it on the digits: {reason}") from error
    if np.shape(result) != (len(images), CLASSES):
        raise ValueError(f"{model_path}: logits have shape {np.shape(result)}, expected {(len(images), CLASSES)}")
    return result


if __name__ == "__main__":
    main()
