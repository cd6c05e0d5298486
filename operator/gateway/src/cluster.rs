//! Instances as pods of a cluster.
