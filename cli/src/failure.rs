use baton_fs_mount::fuse::MountError;
use baton_node::NodeError;
use baton_node::config::ConfigError;
use std::process::ExitCode;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error("{0}")]
    Usage(String),
    #[error("no node could be reached: {0}")]
    Unreachable(String),
    #[error("{0}")]
    Unhealthy(String),
    #[error("cannot {what}: {source}")]
    Io { what: String, source: std::io::Error },
}

impl Failure {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Failure {
        let what = what.into();
        move |source| Failure::Io { what, source }
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Node(_) | Failure::Mount(_) | Failure::Io { .. } => 1,
            Failure::Config(_) | Failure::Usage(_) => 2,
            Failure::Unreachable(_) => 3,
            Failure::Unhealthy(_) => 4,
        })
    }
}
