"""The model catalogue, fetching, and the engines that write answers. Knows no documents."""
