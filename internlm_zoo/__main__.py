"""The command line as a module: `python -m internlm_zoo`, and under torchrun the ranks that share a model."""

from internlm_zoo.cli import main

if __name__ == "__main__":
    main()
