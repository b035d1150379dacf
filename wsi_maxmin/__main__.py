"""``python -m wsi_maxmin`` is ``wsi-maxmin``."""

from wsi_maxmin.cli import main

if __name__ == "__main__":
    main()
