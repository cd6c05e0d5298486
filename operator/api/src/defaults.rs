//! Fields with their default value are left out wherever a spec is written.
//!
//! `function`, `pod` and `warm_pool` mark their fields with this; `revision` relies on it. A field that a
//! later version adds with a default therefore changes nothing that this version writes or hashes.

/// For serde's `skip_serializing_if`.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// As [`is_default`], for a switch that is on by default.
pub(crate) fn is_on(value: &bool) -> bool {
    *value
}
