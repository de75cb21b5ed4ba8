"""`python -m onnxact`."""

from onnxact.cli import main

if __name__ == "__main__":
    main()
