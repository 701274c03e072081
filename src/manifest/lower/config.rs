//! ConfigMaps and Secrets.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use crate::domain::resource::SecretSpec;
use crate::domain::template::ConfigContent;
use crate::manifest::lower::Object;
use crate::manifest::lower::names::is_config_key;
use crate::manifest::path::Path;

/// Of all values of one ConfigMap or Secret. Source: `MaxSecretSize`.
const CONTENT_LIMIT: usize = 1024 * 1024;

pub fn config_map(object: &mut Object<'_, '_>, written: &ConfigMap) -> ConfigContent {
    let mut content = Content::default();
    content.bytes(object, "binaryData", written.binary_data.as_ref());
    let binary = written.binary_data.iter().flatten();
    let both = binary.filter(|(key, _)| written.data.iter().any(|data| data.contains_key(*key)));
    for (key, _) in both {
        let path = Path::ROOT.key("binaryData");
        object.error(&path.key(key), format!("the key `{key}` is in `data` as well"));
    }
    content.text(object, "data", written.data.as_ref());
    let binary = written.binary_data.iter().flatten().map(|(key, _)| key.clone()).collect();
    ConfigContent { binary, ..content.finish(object) }
}

pub fn secret(object: &mut Object<'_, '_>, written: &Secret) -> SecretSpec {
    let mut content = Content::default();
    content.bytes(object, "data", written.data.as_ref());
    content.text(object, "stringData", written.string_data.as_ref());
    let kind = written.type_.clone().filter(|kind| !kind.is_empty());
    let kind = kind.unwrap_or_else(|| "Opaque".to_owned());
    let content = content.finish(object);
    for key in required_keys(&kind).iter().filter(|key| !content.entries.contains_key(**key)) {
        let message = format!("a Secret of type `{kind}` needs the key `{key}`");
        object.error(&Path::ROOT.key("type"), message);
    }
    SecretSpec { kind, content }
}

fn required_keys(kind: &str) -> &'static [&'static str] {
    match kind {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        _ => &[],
    }
}

#[derive(Default)]
struct Content {
    entries: BTreeMap<String, String>,
    length: usize,
}

impl Content {
    fn text(
        &mut self,
        object: &mut Object<'_, '_>,
        field: &str,
        entries: Option<&BTreeMap<String, String>>,
    ) {
        for (key, value) in entries.into_iter().flatten() {
            self.add(object, field, key, value.as_bytes());
        }
    }

    fn bytes(
        &mut self,
        object: &mut Object<'_, '_>,
        field: &str,
        entries: Option<&BTreeMap<String, ByteString>>,
    ) {
        for (key, value) in entries.into_iter().flatten() {
            self.add(object, field, key, &value.0);
        }
    }

    fn add(&mut self, object: &mut Object<'_, '_>, field: &str, key: &str, value: &[u8]) {
        if !is_config_key(key) {
            let rule = "letters, digits, `-`, `_` and `.`";
            let path = Path::ROOT.key(field);
            object.error(&path.key(key), format!("`{key}` is not a valid key: {rule}"));
        }
        self.length += value.len();
        self.entries.insert(key.to_owned(), STANDARD.encode(value));
    }

    fn finish(self, object: &mut Object<'_, '_>) -> ConfigContent {
        if self.length > CONTENT_LIMIT {
            let message = format!("{} bytes of data: at most {CONTENT_LIMIT}", self.length);
            object.error(&Path::ROOT.key("data"), message);
        }
        ConfigContent { entries: self.entries, ..ConfigContent::default() }
    }
}
