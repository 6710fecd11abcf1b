"""HAMi's annotations, names and configuration: what its scheduler, its plugin and we say to each other."""
