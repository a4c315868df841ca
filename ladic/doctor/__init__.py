"""What ``ladic doctor`` looks at: the machine, the cluster, and whether ranks reach each other."""
