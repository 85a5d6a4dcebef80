//! Configurations that several test targets serve.

/// The plugin `echo` at `/s`, with these lines in the stage's table.
#[must_use]
pub fn echo_configuration(stage: &str) -> String {
    format!(
        r#"
[apis.a.stages.s]
{stage}

[apis.a.routes."$default"]
integration = "echo"
two_way = true

[plugins.echo]
component = "{{echo}}"
"#
    )
}

/// The guest `probe` behind every route of `/s`, with these lines in the stage's table and in the plugin's. The route
/// `quietly` is one-way.
#[must_use]
pub fn probe_configuration(stage: &str, plugin: &str) -> String {
    format!(
        r#"
[apis.a.stages.s]
{stage}

[apis.a.routes]
"$connect" = {{ integration = "probe" }}
"$disconnect" = {{ integration = "probe" }}
"$default" = {{ integration = "probe", two_way = true }}
quietly = {{ integration = "probe" }}

[plugins.probe]
component = "{{probe}}"
grants = ["connections", "groups"]
{plugin}
"#
    )
}
