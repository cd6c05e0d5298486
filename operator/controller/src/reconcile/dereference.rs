//! Pods as `core` decides by them, from the objects that the watch shows.
//!
//! Pure. `function` and `warm_pool` feed the result to `core::fleet` and `core::stock`; `build` is next on
//! the way. The state of a pod is read in one place, `pilotlight_api::pod_state`.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use pilotlight_api::labels;
use pilotlight_api::pod_state::{PodState, is_being_deleted};
use pilotlight_core::fleet::{self, stock};

/// A pod of a function.
pub(crate) fn function_pod(pod: &Pod) -> fleet::Pod {
    fleet::Pod {
        name: pod.name_any().into(),
        uid: pod.uid().unwrap_or_default().into(),
        instance: label(pod, labels::INSTANCE).into(),
        revision: label(pod, labels::REVISION).into(),
        is_over: PodState::of(pod).is_ended(),
        is_being_deleted: is_being_deleted(pod),
    }
}

/// An unclaimed pod of a warm pool.
pub(crate) fn warm_pool_pod(pod: &Pod) -> stock::Pod {
    let state = PodState::of(pod);
    stock::Pod {
        name: pod.name_any().into(),
        uid: pod.uid().unwrap_or_default().into(),
        template: label(pod, labels::REVISION),
        is_ready: state.is_ready(),
        is_over: state.is_ended(),
        is_being_deleted: is_being_deleted(pod),
    }
}

fn label(pod: &Pod, name: &str) -> String {
    pod.labels().get(name).cloned().unwrap_or_default()
}
