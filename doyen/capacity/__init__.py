"""How much disk, how many hours, how many nodes: from this machine's measured rates and a simulation of the load."""
