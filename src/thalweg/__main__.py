"""``python -m thalweg``, and with it ``torchrun -m thalweg``."""

from thalweg.cli import main

if __name__ == "__main__":
    main()
