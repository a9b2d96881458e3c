"""What can be set for each agent: one dataclass for each file of ``conf/agent``."""
