//! Images: finding, fetching with the right login, dropping, and the embedded pause image.

use bollard::auth::DockerCredentials;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ImportImageOptions, ListImagesOptions, RemoveImageOptions,
    TagImageOptionsBuilder,
};
use futures_util::StreamExt as _;
use kgit_protocol::pod::RegistryLogin;

use crate::runtime::docker::errors::Asked;
use crate::runtime::docker::{Docker, pause};
use crate::runtime::{Image, Outcome, RuntimeError};

/// The registry that names without one mean, and the key Docker keeps its login under.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_LOGIN: &str = "index.docker.io";

impl Docker {
    pub(super) async fn find_image(&self, name: &str) -> Outcome<Option<Image>> {
        let client = self.client().await?;
        match client.inspect_image(name).await {
            Ok(shown) => Ok(Some(Image {
                id: shown.id.unwrap_or_default(),
                names: shown.repo_tags.unwrap_or_default(),
                digests: shown.repo_digests.unwrap_or_default(),
                user: Some(shown.config.and_then(|config| config.user).unwrap_or_default()),
            })),
            Err(error) => match self.failed(Asked::Container, name, error) {
                RuntimeError::Gone(_) => Ok(None),
                other => Err(other),
            },
        }
    }

    pub(super) async fn all_images(&self) -> Outcome<Vec<Image>> {
        let client = self.client().await?;
        let images = client
            .list_images(None::<ListImagesOptions>)
            .await
            .map_err(|error| self.failed(Asked::Engine, "images", error))?;
        Ok(images
            .into_iter()
            .map(|image| Image {
                id: image.id,
                names: image.repo_tags,
                digests: image.repo_digests,
                user: None,
            })
            .collect())
    }

    /// What people would pin: a repo digest, or the id of a local build.
    pub(super) async fn image_identity(&self, id: &str) -> String {
        if let Some(known) = self.image_names.lock().ok().and_then(|names| names.get(id).cloned()) {
            return known;
        }
        let Ok(Some(image)) = self.find_image(id).await else { return id.to_owned() };
        let identity = image.digests.first().cloned().unwrap_or_else(|| id.to_owned());
        if let Ok(mut names) = self.image_names.lock() {
            names.insert(id.to_owned(), identity.clone());
        }
        identity
    }

    pub(super) async fn fetch_image(&self, name: &str, logins: &[RegistryLogin]) -> Outcome<()> {
        let registry = registry(name);
        let fitting = logins.iter().filter(|login| host(&login.registry) == registry);
        let mut tries: Vec<Option<DockerCredentials>> =
            fitting.map(|login| Some(credentials(login))).collect();
        tries.push(None);
        let mut result = Ok(());
        for login in tries {
            result = self.fetch_once(name, login).await;
            match &result {
                Ok(()) | Err(RuntimeError::RegistryUnreachable(_)) => break,
                Err(_) => {}
            }
        }
        result
    }

    async fn fetch_once(&self, name: &str, login: Option<DockerCredentials>) -> Outcome<()> {
        let client = self.client().await?;
        let options = CreateImageOptionsBuilder::default().from_image(&with_tag(name)).build();
        let mut progress = std::pin::pin!(client.create_image(Some(options), None, login));
        while let Some(line) = progress.next().await {
            let line = line.map_err(|error| self.failed(Asked::Image, name, error))?;
            if let Some(message) = line.error_detail.and_then(|detail| detail.message) {
                let error = bollard::errors::Error::DockerStreamError { error: message };
                return Err(self.failed(Asked::Image, name, error));
            }
        }
        Ok(())
    }

    /// Names the image that a container was made from, as it was named before. The engine keeps
    /// the image of a running container when its names are taken away.
    pub(super) async fn name_image(&self, container: &str, name: &str) -> Outcome<()> {
        let client = self.client().await?;
        let failed = |error| self.failed(Asked::Container, container, error);
        let shown = client.inspect_container(container, None).await.map_err(failed)?;
        let image = shown.image.unwrap_or_default();
        let full = with_tag(name);
        let Some((repo, tag)) = full.rsplit_once(':').filter(|_| !full.contains('@')) else {
            return Err(RuntimeError::Refused(format!("{name} can only be fetched again")));
        };
        let options = TagImageOptionsBuilder::default().repo(repo).tag(tag).build();
        client
            .tag_image(&image, Some(options))
            .await
            .map_err(|error| self.failed(Asked::Container, &image, error))
    }

    pub(super) async fn drop_image(&self, id: &str) -> Outcome<()> {
        let client = self.client().await?;
        client
            .remove_image(id, None::<RemoveImageOptions>, None)
            .await
            .map(|_| ())
            .map_err(|error| self.failed(Asked::Container, id, error))
    }

    pub(super) async fn load_pause_image(&self) -> Outcome<String> {
        let name = pause::name();
        if self.find_image(&name).await?.is_some() {
            return Ok(name);
        }
        let client = self.client().await?;
        let archive = bollard::body_full(pause::archive(&name).into());
        let options = ImportImageOptions { quiet: true, platform: None };
        let mut answers = std::pin::pin!(client.import_image(options, archive, None));
        while let Some(answer) = answers.next().await {
            answer.map_err(|error| self.failed(Asked::Image, &name, error))?;
        }
        Ok(name)
    }
}

/// The host part of an image's name.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => DOCKER_HUB,
    }
}

/// The host part of a login's registry, which may be written as a URL.
fn host(registry: &str) -> &str {
    let bare = registry.trim_start_matches("https://").trim_start_matches("http://");
    let host = bare.split('/').next().unwrap_or(bare);
    if host == DOCKER_HUB_LOGIN { DOCKER_HUB } else { host }
}

/// Without a tag the engine would fetch all of them.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

fn credentials(login: &RegistryLogin) -> DockerCredentials {
    DockerCredentials {
        username: Some(login.username.clone()),
        password: Some(login.password.clone()),
        serveraddress: Some(login.registry.clone()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_name_tells_its_registry() {
        assert_eq!(registry("nginx:1"), "docker.io");
        assert_eq!(registry("library/nginx"), "docker.io");
        assert_eq!(registry("gcr.io/google_containers/echoserver:1.4"), "gcr.io");
        assert_eq!(registry("localhost/a"), "localhost");
        assert_eq!(registry("127.0.0.1:5000/a"), "127.0.0.1:5000");
        assert_eq!(host("https://index.docker.io/v1/"), "docker.io");
        assert_eq!(with_tag("a/b"), "a/b:latest");
        assert_eq!(with_tag("localhost:5000/b"), "localhost:5000/b:latest");
        assert_eq!(with_tag("a@sha256:0"), "a@sha256:0");
    }
}
