//! Test that the trigger for `PostgreSQL` and the configuration use the same names.

use super::{
    binary,
    documents::{deploy, text},
};

#[test]
fn the_trigger_has_the_defaults_of_the_configuration() {
    let script = text(&deploy("postgres/revocations.sql"));
    for (setting, key) in
        [("revoked_table", "table"), ("id_column", "column"), ("notify_channel", "channel")]
    {
        let default = binary::default_of(&format!("blacklist.postgres.{key}"));
        let line = format!("current_setting('portcullis.{setting}', true), ''), '{default}')");
        assert!(script.contains(&line), "{setting} is not {default} by default");
    }
}
