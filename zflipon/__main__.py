"""Entry point of ``python -m zflipon`` and ``accelerate launch -m zflipon``."""

from zflipon.cli import main

if __name__ == "__main__":
    main()
