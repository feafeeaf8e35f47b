//! Where traces go, and which are made: the variables that OpenTelemetry has for it, each a flag too.
//!
//! An empty variable counts as none, by the standard. What can't be read is refused, but only where traces are wanted:
//! the variables may be there for others.

use std::{str::FromStr, time::Duration};

use clap::Args;

/// The name that a service has which is given none.
const SERVICE: &str = "graphmill";
/// **Source:** OpenTelemetry's environment variables: `OTEL_EXPORTER_OTLP_TIMEOUT`.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where traces go, and which are made.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Traces")]
pub struct TraceArgs {
    /// Send traces to this OpenTelemetry collector, over OTLP/HTTP with protobuf (`http://localhost:4318`); none are made
    /// without it.
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_name = "URL",
        hide_env_values = true,
        global = true
    )]
    pub otlp_endpoint: Option<String>,
    /// The same for traces alone, as the whole address: nothing is put behind it.
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        value_name = "URL",
        hide_env_values = true,
        hide_short_help = true,
        global = true
    )]
    pub otlp_traces_endpoint: Option<String>,
    /// What the collector is sent in the head of each request: `name=value,…`, values percent-encoded. Better given by the
    /// environment, since a command line can be seen by others.
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_HEADERS",
        value_name = "HEADERS",
        hide_env_values = true,
        hide_short_help = true,
        global = true
    )]
    pub otlp_headers: Option<String>,
    /// How long the collector may take to answer, in milliseconds [default: 10000].
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_TIMEOUT",
        value_name = "MS",
        hide_short_help = true,
        global = true
    )]
    pub otlp_timeout: Option<String>,
    /// What this process is called in traces [default: graphmill].
    #[arg(
        long,
        env = "OTEL_SERVICE_NAME",
        value_name = "NAME",
        hide_short_help = true,
        global = true
    )]
    pub otel_service_name: Option<String>,
    /// What else traces say of this process: `name=value,…`, values percent-encoded.
    #[arg(
        long,
        env = "OTEL_RESOURCE_ATTRIBUTES",
        value_name = "ATTRIBUTES",
        hide_short_help = true,
        global = true
    )]
    pub otel_resource_attributes: Option<String>,
    /// Which traces are made: `always_on`, `always_off`, `traceidratio`, or one of these behind `parentbased_`, which heeds
    /// what whoever submits has decided [default: `parentbased_always_on`].
    #[arg(
        long,
        env = "OTEL_TRACES_SAMPLER",
        value_name = "SAMPLER",
        hide_short_help = true,
        global = true
    )]
    pub otel_traces_sampler: Option<String>,
    /// The share of traces that `traceidratio` makes, 0 to 1 [default: 1].
    #[arg(
        long,
        env = "OTEL_TRACES_SAMPLER_ARG",
        value_name = "SHARE",
        hide_short_help = true,
        global = true
    )]
    pub otel_traces_sampler_arg: Option<String>,
    /// Make no traces, whatever else is said: `true`.
    #[arg(
        long,
        env = "OTEL_SDK_DISABLED",
        value_name = "BOOL",
        hide_short_help = true,
        global = true
    )]
    pub otel_sdk_disabled: Option<String>,
}

/// Which of the traces that begin here are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Share {
    /// All.
    All,
    /// None.
    None,
    /// So many, by their ids: whoever has the same share makes the same ones.
    Of(f64),
}

/// How traces are made.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSettings {
    /// Where they are sent.
    pub endpoint: String,
    /// What is sent in the head of each request.
    pub headers: Vec<(String, String)>,
    /// How long the collector may take.
    pub timeout: Duration,
    /// What this process is called.
    pub service: String,
    /// What else is said of it.
    pub attributes: Vec<(String, String)>,
    /// Which are made.
    pub share: Share,
    /// Of a trace that began elsewhere, whoever began it decides.
    pub parent_decides: bool,
}

/// What is said of traces can't be read. Trying again does not help.
#[derive(Debug, thiserror::Error)]
pub enum TraceConfigError {
    /// The address.
    #[error("{0} is no address of a collector: give one as http://localhost:4318")]
    Endpoint(&'static str),
    /// A list of names and values. It is not shown, since it may hold a key.
    #[error("{0} can't be read: give name=value,… with percent-encoded values")]
    List(&'static str),
    /// A number of milliseconds.
    #[error("OTEL_EXPORTER_OTLP_TIMEOUT is no number of milliseconds")]
    Timeout,
    /// The sampler.
    #[error(
        "OTEL_TRACES_SAMPLER={0} is not known here: give always_on, always_off or traceidratio, or one of them behind \
         parentbased_"
    )]
    Sampler(String),
    /// The sampler's share.
    #[error("OTEL_TRACES_SAMPLER_ARG is no share from 0 to 1")]
    Ratio,
}

impl TraceArgs {
    /// How traces are made; `None`: they are not.
    ///
    /// # Errors
    /// [`TraceConfigError`] names what can't be read.
    pub fn settings(&self) -> Result<Option<TraceSettings>, TraceConfigError> {
        if said(self.otel_sdk_disabled.as_deref())
            .is_some_and(|off| off.eq_ignore_ascii_case("true"))
        {
            return Ok(None);
        }
        let Some(endpoint) = self.endpoint()? else {
            return Ok(None);
        };
        let headers = list(self.otlp_headers.as_deref(), "OTEL_EXPORTER_OTLP_HEADERS")?;
        let mut attributes = list(
            self.otel_resource_attributes.as_deref(),
            "OTEL_RESOURCE_ATTRIBUTES",
        )?;
        let mut named = None;
        attributes.retain(|(name, value)| {
            let is_name = name == "service.name";
            if is_name {
                named = Some(value.clone());
            }
            !is_name
        });
        let service = said(self.otel_service_name.as_deref()).map(str::to_owned);
        let timeout = match said(self.otlp_timeout.as_deref()) {
            None => TIMEOUT,
            Some(text) => {
                Duration::from_millis(text.parse().map_err(|_| TraceConfigError::Timeout)?)
            }
        };
        let (share, parent_decides) = self.sampler()?;
        Ok(Some(TraceSettings {
            endpoint,
            headers,
            timeout,
            service: service.or(named).unwrap_or_else(|| SERVICE.to_owned()),
            attributes,
            share,
            parent_decides,
        }))
    }

    fn endpoint(&self) -> Result<Option<String>, TraceConfigError> {
        let (variable, endpoint) = match (
            said(self.otlp_traces_endpoint.as_deref()),
            said(self.otlp_endpoint.as_deref()),
        ) {
            (Some(whole), _) => ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", whole.to_owned()),
            (None, Some(base)) => (
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                format!("{}/v1/traces", base.trim_end_matches('/')),
            ),
            (None, None) => return Ok(None),
        };
        if endpoint.starts_with("http://") || endpoint.starts_with("https://") {
            Ok(Some(endpoint))
        } else {
            Err(TraceConfigError::Endpoint(variable))
        }
    }

    fn sampler(&self) -> Result<(Share, bool), TraceConfigError> {
        let name = said(self.otel_traces_sampler.as_deref()).unwrap_or("parentbased_always_on");
        let (parent_decides, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name),
        };
        let share = match root {
            "always_on" => Share::All,
            "always_off" => Share::None,
            "traceidratio" => {
                let share =
                    said(self.otel_traces_sampler_arg.as_deref()).map_or(Ok(1.0), f64::from_str);
                match share {
                    Ok(share) if (0.0..=1.0).contains(&share) => Share::Of(share),
                    Ok(_) | Err(_) => return Err(TraceConfigError::Ratio),
                }
            }
            _ => return Err(TraceConfigError::Sampler(name.to_owned())),
        };
        Ok((share, parent_decides))
    }
}

/// What a variable says, if it says anything.
fn said(variable: Option<&str>) -> Option<&str> {
    let text = variable?.trim();
    (!text.is_empty()).then_some(text)
}

/// `name=value,…` with percent-encoded values, as in W3C Baggage.
fn list(
    variable: Option<&str>,
    name: &'static str,
) -> Result<Vec<(String, String)>, TraceConfigError> {
    let parts = said(variable).unwrap_or_default().split(',');
    parts
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (key, value) = part.split_once('=')?;
            let key = key.trim();
            (!key.is_empty()).then(|| Some((key.to_owned(), decoded(value.trim())?)))?
        })
        .collect::<Option<_>>()
        .ok_or(TraceConfigError::List(name))
}

/// Without the percent-encoding; `None` if what comes out is no text.
fn decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let encoded = behind.get(..2).filter(|_| first == b'%');
        let byte = encoded
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = byte {
            bytes.push(byte);
            rest = &behind[2..];
        } else {
            bytes.push(first);
            rest = behind;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(endpoint: &str) -> TraceArgs {
        TraceArgs {
            otlp_endpoint: Some(endpoint.to_owned()),
            ..TraceArgs::default()
        }
    }

    #[test]
    fn nothing_is_traced_unless_it_is_asked_for() {
        let broken = Some("nonsense".to_owned());
        let others = TraceArgs {
            otel_traces_sampler: broken.clone(),
            otlp_timeout: broken.clone(),
            otlp_headers: broken,
            ..TraceArgs::default()
        };
        assert_eq!(others.settings().unwrap(), None);
        let empty = TraceArgs {
            otlp_endpoint: Some(" ".to_owned()),
            ..others.clone()
        };
        assert_eq!(empty.settings().unwrap(), None);
        let off = TraceArgs {
            otel_sdk_disabled: Some("True".to_owned()),
            ..args("http://collector:4318")
        };
        assert_eq!(off.settings().unwrap(), None);
    }

    #[test]
    fn an_address_is_the_collectors_or_that_of_traces() {
        let base = args("http://collector:4318/").settings().unwrap().unwrap();
        assert_eq!(base.endpoint, "http://collector:4318/v1/traces");
        assert_eq!(
            (base.service.as_str(), base.share, base.parent_decides),
            ("graphmill", Share::All, true)
        );
        let own = TraceArgs {
            otlp_traces_endpoint: Some("https://else.where/in".to_owned()),
            ..args("http://collector:4318")
        };
        let own = own.settings().unwrap().unwrap();
        assert_eq!(own.endpoint, "https://else.where/in");
        assert!(args("collector:4317").settings().is_err());
    }

    #[test]
    fn lists_are_decoded_and_a_name_of_its_own_goes_first() {
        let mut some = args("http://collector:4318");
        some.otlp_headers = Some("authorization=Basic%20YTpi, x-tenant = 7,".to_owned());
        some.otel_resource_attributes =
            Some("service.name=mill,deployment.environment.name=test%2Cone,at=100%".to_owned());
        let read = some.settings().unwrap().unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            read.headers,
            [pair("authorization", "Basic YTpi"), pair("x-tenant", "7")]
        );
        assert_eq!(read.service, "mill");
        assert_eq!(
            read.attributes,
            [
                pair("deployment.environment.name", "test,one"),
                pair("at", "100%")
            ]
        );
        some.otel_service_name = Some("other".to_owned());
        assert_eq!(some.settings().unwrap().unwrap().service, "other");
        for broken in ["nothing", "=secret", "a=%ff"] {
            some.otlp_headers = Some(broken.to_owned());
            let error = some.settings().unwrap_err().to_string();
            assert!(!error.contains(broken), "{error}");
        }
    }

    #[test]
    fn the_samplers_of_the_standard_are_known() {
        let sampler = |name: &str, share: Option<&str>| {
            let args = TraceArgs {
                otel_traces_sampler: Some(name.to_owned()),
                otel_traces_sampler_arg: share.map(str::to_owned),
                ..args("http://collector:4318")
            };
            let settings = args.settings().map_err(|error| error.to_string())?;
            let settings = settings.ok_or_else(|| "off".to_owned())?;
            Ok::<_, String>((settings.share, settings.parent_decides))
        };
        assert_eq!(sampler("always_on", None), Ok((Share::All, false)));
        assert_eq!(sampler("always_off", Some("x")), Ok((Share::None, false)));
        assert_eq!(
            sampler("parentbased_traceidratio", Some("0.25")),
            Ok((Share::Of(0.25), true))
        );
        assert_eq!(sampler("traceidratio", None), Ok((Share::Of(1.0), false)));
        assert!(sampler("traceidratio", Some("2")).is_err());
        assert!(sampler("traceidratio", Some("NaN")).is_err());
        assert!(sampler("parentbased_jaeger_remote", None).is_err());
    }
}
