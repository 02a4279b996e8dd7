//! Each role to its engine: the local model, or one elsewhere, as the settings say.
//!
//! Decides nothing else. The local engine is only started when a role of its own speaks.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::engine::cores::Share;
use crate::engine::remote::RemoteEngine;
use crate::engine::{Completion, Engine, ModelInfo, OnPiece, RemoteRole, Request, Role};
use crate::error::EngineError;

/// See the file's head.
pub struct Router {
    local: Arc<dyn Engine>,
    remote: HashMap<Role, Arc<RemoteEngine>>,
}

impl Router {
    /// Roles not in `remote` go to `local`.
    pub fn new(local: Arc<dyn Engine>, remote: HashMap<Role, Arc<RemoteEngine>>) -> Router {
        Router { local, remote }
    }

    fn engine(&self, role: Role) -> &dyn Engine {
        match self.remote.get(&role) {
            Some(remote) => remote.as_ref(),
            None => self.local.as_ref(),
        }
    }
}

#[async_trait]
impl Engine for Router {
    /// What the planner's engine serves, with the roles that are served elsewhere.
    async fn model(&self) -> Result<ModelInfo, EngineError> {
        let mut info = self.engine(Role::Planner).model().await?;
        for role in Role::ALL {
            if let Some(remote) = self.remote.get(&role) {
                let model = remote.model().await?.name;
                let (engine, host) = (remote.name().to_string(), remote.host());
                info.remote.push(RemoteRole { role, engine, model, host });
            }
        }
        Ok(info)
    }

    async fn complete(
        &self,
        request: Request,
        on_piece: Option<OnPiece>,
        cancel: CancellationToken,
    ) -> Result<Completion, EngineError> {
        self.engine(request.role).complete(request, on_piece, cancel).await
    }

    async fn set_adapter(&self, path: Option<PathBuf>) -> Result<Option<String>, EngineError> {
        self.engine(Role::Planner).set_adapter(path).await
    }

    async fn score(&self, ids: Vec<i32>, adapter: bool) -> Result<Vec<f32>, EngineError> {
        self.engine(Role::Planner).score(ids, adapter).await
    }

    async fn cores(&self, waits: &(dyn Fn() + Send + Sync)) -> Share {
        match Role::ALL.iter().all(|role| self.remote.contains_key(role)) {
            true => Share::default(),
            false => self.local.cores(waits).await,
        }
    }

    async fn untrainable(&self, temperature: f32) -> Result<Option<String>, EngineError> {
        self.engine(Role::Planner).untrainable(temperature).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Remote;
    use crate::engine::scripted::ScriptedEngine;
    use crate::engine::{Message, Sampler, Speaker};

    #[tokio::test]
    async fn a_role_without_a_remote_engine_stays_local_and_the_others_do_not() {
        let local = Arc::new(ScriptedEngine::list(["from here"]));
        // A port nobody listens on: reaching for it is an error of its own kind.
        let settings = Remote {
            url: "http://127.0.0.1:1/v1".into(),
            model: "m".into(),
            retries: 0,
            ..Remote::default()
        };
        let away = Arc::new(RemoteEngine::new("away", settings));
        let router = Router::new(local, HashMap::from([(Role::Generator, away)]));
        let request = |role| Request {
            role,
            messages: vec![Message::new(Speaker::User, ["hi"])],
            sampler: Sampler::greedy(),
            constraint: None,
            max_tokens: 4,
        };
        let cancel = CancellationToken::new;
        let answer = router.complete(request(Role::Planner), None, cancel()).await.unwrap();
        assert_eq!(answer.text, "from");
        let error = router.complete(request(Role::Generator), None, cancel()).await.unwrap_err();
        assert!(matches!(&error, EngineError::Remote { engine, .. } if engine == "away"), "{error}");
        assert!(error.to_string().contains("cannot reach 127.0.0.1:1"), "{error}");
        assert_eq!(router.untrainable(0.7).await.unwrap(), None);
    }
}
