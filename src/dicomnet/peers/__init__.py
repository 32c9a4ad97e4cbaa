"""Names for peers, kept in ``dicomnet.toml``: ``book`` finds and reads such files, ``editing`` changes one."""
