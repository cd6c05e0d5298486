//! Complete objects for the API server, from resources and the controller's options.
//!
//! Pure: never sees a client. `function` makes the objects of a function, `warm` the pod of a warm pool, both
//! from the parts in `instance`, `variables` and `volumes`. `apply` writes what these return.

mod function;
mod instance;
mod variables;
mod volumes;
mod warm;

pub(crate) use self::function::{check, code, handler, pod, resized, revision_of_code, taken_over};
pub(crate) use self::instance::Unbuildable;
pub(crate) use self::volumes::TOKEN_PATH;
pub(crate) use self::warm::Template;

#[cfg(test)]
mod tests;
