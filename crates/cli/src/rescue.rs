//! `crucial cluster rescue`.

use crucial_object::{Error, Result};

use super::value::Answer;

/// Has the server at an address go on without those that do not answer, or says what that would mean.
#[cfg(feature = "cluster")]
pub fn run(server: &str, confirmed: bool) -> Result<Answer> {
    let rescue = crucial_control::rescue::rescue(server, confirmed)
        .map_err(|why| Error::Other(format!("cannot rescue the cluster: {why}")))?;
    match confirmed {
        true => Ok(cluster::done(&rescue)),
        false => Err(Error::Other(cluster::warning(&rescue))),
    }
}

/// This build has no clusters.
#[cfg(not(feature = "cluster"))]
pub fn run(_: &str, _: bool) -> Result<Answer> {
    Err(Error::Config {
        detail: "this build of crucial has no clusters: build it with the feature `cluster`"
            .to_owned(),
    })
}

#[cfg(feature = "cluster")]
mod cluster {
    use crucial_control::rescue::Rescue;
    use serde_json::{Value, json};

    use super::*;

    fn addresses(servers: &[(u64, String)]) -> Vec<&str> {
        servers
            .iter()
            .map(|(_, address)| address.as_str())
            .collect()
    }

    /// For how long the server was without the others.
    fn silence(rescue: &Rescue) -> String {
        match rescue.silent_ms {
            Some(ms) => format!("for the last {} s", ms / 1000),
            None => "since the server was started".to_owned(),
        }
    }

    pub fn warning(rescue: &Rescue) -> String {
        format!(
            "nothing was done. A rescue gives up the cluster {:016x} and these servers, which must never run again with what \
             they have: {}. Going on: {}. Of {} partitions {} lose all of their objects. What the others have changed {} is \
             unknown: objects that are left may be older than what clients were told, if the others were running without \
             this server. To do it, add --yes-lose-what-only-they-had",
            rescue.cluster,
            addresses(&rescue.lost).join(", "),
            addresses(&rescue.survivors).join(", "),
            rescue.partitions,
            rescue.partitions_lost,
            silence(rescue),
        )
    }

    pub fn done(rescue: &Rescue) -> Answer {
        let value = json!({
            "cluster": format!("{:016x}", rescue.rescued),
            "given_up": format!("{:016x}", rescue.cluster),
            "survivors": addresses(&rescue.survivors),
            "lost": addresses(&rescue.lost),
            "partitions": rescue.partitions,
            "partitions_lost": rescue.partitions_lost,
        });
        Answer::of(value).with_lines(|value| {
            let fields = value.as_object().into_iter().flatten();
            let line = |(name, value): (&String, &Value)| match value {
                Value::Array(items) => {
                    let items = items.iter().filter_map(Value::as_str);
                    json!([name, items.collect::<Vec<_>>().join(",")])
                }
                other => json!([name, other]),
            };
            fields.map(line).collect()
        })
    }
}
