//! What a command needs to call models: the extractor, its provider, and the settings.

use std::sync::Arc;

use super::error::CliError;
use crate::{
    config::{BudgetArgs, ModelArgs, Models},
    extractors::{DirectCalls, Extractor, Extractors, OpenAi},
    pipeline::{ModelChoice, Settings},
    store::Caps,
};

/// Adds the extractor `openai`, if there is somebody to call; and returns how models are called.
pub(super) fn equip(
    extractors: Extractors,
    args: &ModelArgs,
) -> Result<(Extractors, Models), CliError> {
    let models = args.load()?;
    if !models.is_configured {
        return Ok((extractors, models));
    }
    let provider =
        OpenAi::new(&models.server).map_err(|error| CliError::Usage(error.to_string()))?;
    let extractors = extractors.calling(provider);
    Ok((extractors, models))
}

/// The extractor of that name.
pub(super) fn extractor(
    extractors: &Extractors,
    name: &str,
) -> Result<Arc<dyn Extractor>, CliError> {
    let found = extractors.get(name).ok_or_else(|| {
        let names: Vec<&str> = extractors.names().collect();
        CliError::Usage(format!(
            "there is no extractor `{name}`: choose from {}",
            names.join(", ")
        ))
    })?;
    if found.calls_models() && extractors.provider().is_none() {
        return Err(CliError::Usage(format!(
            "the extractor `{name}` needs somebody to call: set OPENAI_API_KEY, or OPENAI_BASE_URL for a server of \
             your own, or both"
        )));
    }
    Ok(found)
}

/// `extractor`, calling models without a ledger or limits over processes; none, if it calls no model.
pub(super) fn directly(
    extractor: &dyn Extractor,
    extractors: &Extractors,
    models: &Models,
) -> Result<Option<Arc<dyn Extractor>>, CliError> {
    let (true, Some(provider)) = (extractor.calls_models(), extractors.provider()) else {
        return Ok(None);
    };
    let name = models.model.clone().ok_or_else(which_model)?;
    let calls = DirectCalls::new(provider, name, models.limits.concurrency as usize);
    Ok(extractor.calling(Arc::new(calls)))
}

pub(super) fn which_model() -> CliError {
    CliError::Usage(
        "which model? name it with --model, GRAPHMILL_MODEL, or `model` in graphmill.toml"
            .to_owned(),
    )
}

/// The model of a batch that `extractor` works, and what it may spend; none, if it calls no model.
pub(super) fn of_batch(
    extractor: &dyn Extractor,
    models: &Models,
    budget: &BudgetArgs,
    fresh: bool,
    adjudicates: bool,
) -> Result<Option<(ModelChoice, Caps)>, CliError> {
    if !extractor.calls_models() && !adjudicates {
        if fresh || budget.max_cost.is_some() || budget.max_tokens.is_some() {
            return Err(CliError::Usage(format!(
                "--fresh, --max-cost and --max-tokens are for extractors that call models; `{}` calls none",
                extractor.name()
            )));
        }
        return Ok(None);
    }
    let Some(choice) = models.choice(fresh) else {
        return Err(which_model());
    };
    let caps = Caps {
        cost: budget.max_cost.or(models.max_cost),
        tokens: budget.max_tokens.or(models.max_tokens),
    };
    if caps.cost.is_some() && choice.price.is_none() {
        return Err(CliError::Usage(format!(
            "--max-cost needs the price of `{0}`: put it into graphmill.toml, in US dollars a million tokens:\n  \
             [prices.\"{0}\"]\n  input = 0.15\n  cached-input = 0.075\n  output = 0.60\nor use --max-tokens",
            choice.name
        )));
    }
    Ok(Some((choice, caps)))
}

/// Settings for an extractor that calls models: a unit may take several calls, each as long as it may.
pub(super) fn patient(mut settings: Settings, models: &Models) -> Settings {
    let timeout = models.server.timeout;
    settings.units.soft_timeout = settings.units.soft_timeout.max(timeout);
    settings.units.hard_timeout = settings.units.hard_timeout.max(timeout * CALLS_OF_A_UNIT);
    settings
}

/// Calls that one unit may need: a second try with the validator's message, another sample, a chunk that is split.
const CALLS_OF_A_UNIT: u32 = 10;
