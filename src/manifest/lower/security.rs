//! The security contexts of a pod and of its containers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSecurityContext, SeccompProfile, SecurityContext};
use kgit_protocol::pod::{ContainerSecurity, PodSecurity};

use crate::manifest::lower::Object;
use crate::manifest::path::Path;

pub fn pod(object: &mut Object<'_, '_>, written: &PodSecurityContext) -> PodSecurity {
    let sysctls = written.sysctls.iter().flatten();
    let sysctls: BTreeMap<_, _> =
        sysctls.map(|each| (each.name.clone(), each.value.clone())).collect();
    let groups = written.supplemental_groups.clone().unwrap_or_default();
    for id in written.fs_group.iter().chain(&groups).filter(|id| !is_id(**id)) {
        let path = Path::ROOT.key("spec");
        object.error(&path, format!("{id} is not a group: 0 to 2147483647"));
    }
    PodSecurity { fs_group: written.fs_group, supplemental_groups: groups, sysctls }
}

fn is_id(id: i64) -> bool {
    (0..=i64::from(i32::MAX)).contains(&id)
}

/// The container's own context; what it leaves open comes from the pod's.
pub fn container(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: Option<&SecurityContext>,
    pod: &PodSecurityContext,
) -> ContainerSecurity {
    let none = SecurityContext::default();
    let own = written.unwrap_or(&none);
    let run_as_user = own.run_as_user.or(pod.run_as_user);
    let run_as_group = own.run_as_group.or(pod.run_as_group);
    for (key, id) in [("runAsUser", run_as_user), ("runAsGroup", run_as_group)] {
        if id.is_some_and(|id| !is_id(id)) {
            object.error(&path.key(key), "an id must be 0 to 2147483647");
        }
    }
    let run_as_non_root = own.run_as_non_root.or(pod.run_as_non_root).unwrap_or(false);
    if run_as_non_root && run_as_user == Some(0) {
        object.error(&path.key("runAsUser"), "user 0 is root, and `runAsNonRoot` forbids root");
    }
    let privileged = own.privileged.unwrap_or(false);
    if privileged && own.allow_privilege_escalation == Some(false) {
        let message = "a privileged container can't forbid privilege escalation";
        object.error(&path.key("allowPrivilegeEscalation"), message);
    }
    let capabilities = own.capabilities.clone().unwrap_or_default();
    let profile = own.seccomp_profile.as_ref().or(pod.seccomp_profile.as_ref());
    let seccomp_path = path.key("seccompProfile");
    ContainerSecurity {
        privileged,
        run_as_user,
        run_as_group,
        run_as_non_root,
        read_only_root: own.read_only_root_filesystem.unwrap_or(false),
        allow_privilege_escalation: own.allow_privilege_escalation,
        add_capabilities: capabilities.add.unwrap_or_default(),
        drop_capabilities: capabilities.drop.unwrap_or_default(),
        seccomp: profile.and_then(|profile| seccomp(object, &seccomp_path, profile)),
    }
}

fn seccomp(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    profile: &SeccompProfile,
) -> Option<String> {
    let file = profile.localhost_profile.as_deref().unwrap_or_default();
    match profile.type_.as_str() {
        "RuntimeDefault" | "Unconfined" => Some(profile.type_.clone()),
        "Localhost" => {
            object.filled(&path.key("localhostProfile"), file);
            object.inner_path(&path.key("localhostProfile"), file);
            Some(format!("Localhost/{file}"))
        }
        other => {
            let known = "`RuntimeDefault`, `Unconfined`, `Localhost`";
            object.error(&path.key("type"), format!("`{other}` is not one of {known}"));
            None
        }
    }
}
