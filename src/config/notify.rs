//! Who is told that a batch has ended, and the secret that says who tells.

use clap::Args;

use crate::notify::{Secrets, SecretsError};

/// How webhooks are signed.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Webhooks")]
pub struct SigningArgs {
    /// What webhooks are signed with: `whsec_` and a key in base64, or 16 characters and more of your own; several, with
    /// spaces between them, all sign. Better given by the environment, since a command line can be seen by others.
    #[arg(
        long,
        env = "GRAPHMILL_WEBHOOK_SECRET",
        value_name = "SECRET",
        hide_env_values = true
    )]
    pub notify_secret: Option<String>,
}

impl SigningArgs {
    /// The secrets, if there are any.
    ///
    /// # Errors
    /// [`SecretsError`]; trying again does not help.
    pub fn secrets(&self) -> Result<Option<Secrets>, SecretsError> {
        let secrets = self.notify_secret.as_deref().map(Secrets::parse);
        Ok(secrets.transpose()?.flatten())
    }
}

/// Who is told that a batch has ended.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Webhooks")]
pub struct NotifyArgs {
    /// Where to POST that a batch has ended, once for each of its ends; docs/WEBHOOKS.md says what and how.
    #[arg(
        long,
        env = "GRAPHMILL_NOTIFY",
        value_name = "URL",
        hide_env_values = true
    )]
    pub notify: Option<String>,
    /// How that is signed.
    #[command(flatten)]
    pub signing: SigningArgs,
}

impl NotifyArgs {
    /// The address, if one was given. An empty one counts as none.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.notify
            .as_deref()
            .filter(|address| !address.trim().is_empty())
    }
}
