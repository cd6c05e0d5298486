//! One function's way to its pods, a step a file: `build` makes the objects, `apply` hands them
//! to the API server, `status` tells how the function does.

pub(crate) mod apply;
pub(crate) mod build;
pub(crate) mod status;
