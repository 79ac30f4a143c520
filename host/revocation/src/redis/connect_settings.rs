//! Connection settings of Redis and of its sentinels, from the configuration and the files that it
//! names.

use std::path::Path;

use portcullis_types::secret::{Secret, ShownPath};
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo,
    TlsCertificates,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{RedisBuildError, address::RedisAddress, sentinels::Sentinels};
use crate::config::{Endpoint, RedisConfig};

/// How to connect.
pub(super) struct ConnectSettings {
    /// The primary; with sentinels, everything about it except its address.
    pub(super) primary: ConnectionInfo,
    pub(super) sentinels: Option<Sentinels>,
}

// === impl ConnectSettings ===

impl ConnectSettings {
    /// Reads the files that the configuration names; connects to nothing.
    pub(super) fn read(config: &RedisConfig) -> Result<Self, RedisBuildError> {
        let primary = primary(config)?;
        let has_tls = matches!(primary.addr(), ConnectionAddr::TcpTls { .. });
        let master_name = config.master_name.as_ref().filter(|_| !config.sentinels.is_empty());
        let sentinel_tls = config.sentinel_tls.unwrap_or(has_tls);
        let ca_file = config.ca_file.as_deref();
        if ca_file.is_some() && !has_tls && !(master_name.is_some() && sentinel_tls) {
            return Err(RedisBuildError::new(
                "ca_file",
                "has no effect without TLS; write the address with `rediss://`, or remove this",
            ));
        }
        let sentinels = match master_name.cloned() {
            Some(master_name) => {
                let all = sentinels(config, &with_tls(&primary, sentinel_tls, ca_file)?)?;
                Some(Sentinels { master_name, all, limit: config.connect_timeout.get() })
            }
            None => None,
        };
        Ok(Self { primary: with_tls(&primary, has_tls, ca_file)?, sentinels })
    }

    /// Whether the configuration names files, which may change.
    pub(super) const fn has_files(config: &RedisConfig) -> bool {
        config.url_file.is_some()
            || config.password_file.is_some()
            || config.sentinel_password_file.is_some()
            || config.ca_file.is_some()
    }
}

/// The primary, from its configured address.
fn primary(config: &RedisConfig) -> Result<ConnectionInfo, RedisBuildError> {
    const SECTION: &str = "blacklist.redis";
    let by_sentinels = Endpoint::new("redis://sentinels");
    let url = match (&config.url, &config.url_file) {
        (None, None) if !config.sentinels.is_empty() => Some(&by_sentinels),
        (url, _) => url.as_ref(),
    };
    let (url_file, password_file) = (config.url_file.as_deref(), config.password_file.as_deref());
    let endpoint = Endpoint::resolve(SECTION, url, url_file, password_file)?;
    if !["redis://", "rediss://"].iter().any(|scheme| endpoint.expose().starts_with(scheme)) {
        return Err(RedisBuildError::new(
            "url",
            "write `redis://host:port/database`, or `rediss://`",
        ));
    }
    let info = endpoint.expose().into_connection_info().map_err(|_| {
        RedisBuildError::new("url", "not an address; write `redis://user@host:port/database`")
    })?;
    if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
        return Err(RedisBuildError::new(
            "url",
            "`#insecure` would trust any server; remove it, and name a `ca_file`",
        ));
    }
    let mut redis = info.redis_settings().clone();
    if let Some(username) = &config.username {
        redis = redis.set_username(username);
    }
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    Ok(info.set_redis_settings(redis).set_tcp_settings(tcp))
}

/// The sentinels, with the settings of `like` except address and password.
fn sentinels(
    config: &RedisConfig,
    like: &ConnectionInfo,
) -> Result<Vec<ConnectionInfo>, RedisBuildError> {
    let mut redis = RedisConnectionInfo::default();
    if let Some(file) = &config.sentinel_password_file {
        let unusable = |message: String| RedisBuildError::new("sentinel_password_file", message);
        let secret = Secret::read(file).map_err(|error| unusable(error.to_string()))?;
        let password = std::str::from_utf8(secret.expose())
            .map_err(|_| unusable(format!("{}: the file is not UTF-8", ShownPath::of(file))))?;
        redis = redis.set_password(password);
    }
    if let Some(username) = &config.sentinel_username {
        redis = redis.set_username(username);
    }
    // The text is not shown: it may be a URL with a password.
    let info = |(index, text): (usize, &String)| {
        let address = RedisAddress::parse(text).ok_or_else(|| {
            let message = format!("[{index}] is not an address; write host:port");
            RedisBuildError::new("sentinels", message)
        })?;
        Ok(address.on(like).set_redis_settings(redis.clone()))
    };
    config.sentinels.iter().enumerate().map(info).collect()
}

/// The same with or without TLS. It trusts only the certificates in `ca_file`, if there is one.
fn with_tls(
    info: &ConnectionInfo,
    tls: bool,
    ca_file: Option<&Path>,
) -> Result<ConnectionInfo, RedisBuildError> {
    let info = RedisAddress::of(info).with_tls(info, tls);
    match ca_file {
        Some(file) if tls => with_roots(info, file),
        _ => Ok(info),
    }
}

fn with_roots(info: ConnectionInfo, file: &Path) -> Result<ConnectionInfo, RedisBuildError> {
    let unusable = |message: &str| {
        RedisBuildError::new("ca_file", format!("{}: {message}", ShownPath::of(file)))
    };
    let pem = std::fs::read(file).map_err(|error| unusable(&format!("cannot read it: {error}")))?;
    let roots = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    if !roots.is_ok_and(|roots| !roots.is_empty()) {
        return Err(unusable("holds no certificate; it must be PEM"));
    }
    let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
    let client = Client::build_with_tls(info, certificates)
        .map_err(|_| unusable("holds a certificate that cannot be a trust anchor"))?;
    Ok(client.get_connection_info().clone())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::{config::Config, redis::Redis};

    fn config(yaml: &str) -> RedisConfig {
        serde_saphyr::from_str::<Config>(&format!("redis: {{ {yaml} }}")).unwrap().redis.unwrap()
    }

    fn target(yaml: &str) -> ConnectSettings {
        ConnectSettings::read(&config(yaml)).unwrap()
    }

    fn file(content: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file
    }

    fn host_and_tls(info: &ConnectionInfo) -> (String, bool) {
        (RedisAddress::of(info).to_string(), matches!(info.addr(), ConnectionAddr::TcpTls { .. }))
    }

    fn sentinels_of(target: &ConnectSettings) -> &[ConnectionInfo] {
        &target.sentinels.as_ref().unwrap().all
    }

    #[test]
    fn an_address_says_host_database_user_and_tls() {
        let password = file("pass\n");
        let target = target(&format!(
            "url: 'rediss://store:6380/3', username: me, password_file: '{}'",
            password.path().display()
        ));
        assert_eq!(host_and_tls(&target.primary), ("store:6380".to_owned(), true));
        let settings = target.primary.redis_settings();
        assert_eq!(
            (settings.db(), settings.username(), settings.password()),
            (3, Some("me"), Some("pass"))
        );
        assert!(target.sentinels.is_none());
    }

    #[test]
    fn sentinels_need_no_address_and_have_a_user_and_a_password_of_their_own() {
        let (ours, theirs) = (file("ours"), file("theirs"));
        let target = target(&format!(
            "sentinels: ['one:26379', '[::1]:26380'], master_name: mymaster, password_file: '{}', \
             sentinel_username: watcher, sentinel_password_file: '{}'",
            ours.path().display(),
            theirs.path().display()
        ));
        assert_eq!(target.primary.redis_settings().password(), Some("ours"));
        let all: Vec<_> = sentinels_of(&target).iter().map(host_and_tls).collect();
        assert_eq!(all, [("one:26379".to_owned(), false), ("::1:26380".to_owned(), false)]);
        for sentinel in sentinels_of(&target) {
            let settings = sentinel.redis_settings();
            let user = (settings.username(), settings.password());
            assert_eq!(user, (Some("watcher"), Some("theirs")));
        }
    }

    #[test]
    fn tls_and_database_of_the_address_hold_with_sentinels() {
        let target =
            target("url: 'rediss://user@ignored/2', sentinels: ['one:1'], master_name: mymaster");
        assert_eq!(host_and_tls(&sentinels_of(&target)[0]), ("one:1".to_owned(), true));
        let found = RedisAddress::parse("10.0.0.7:6379").unwrap().on(&target.primary);
        assert_eq!(host_and_tls(&found), ("10.0.0.7:6379".to_owned(), true));
        assert_eq!(found.redis_settings().db(), 2);
    }

    #[test]
    fn tls_of_the_sentinels_can_differ_from_that_of_redis() {
        for (url, written, of_redis) in
            [("rediss://store", false, true), ("redis://store", true, false)]
        {
            let target = target(&format!(
                "url: '{url}', sentinels: ['one:1'], master_name: m, sentinel_tls: {written}"
            ));
            assert_eq!(host_and_tls(&target.primary).1, of_redis, "{url}");
            assert_eq!(host_and_tls(&sentinels_of(&target)[0]).1, written, "{url}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_key_and_fix() {
        let empty = file("no certificate");
        let not_pem = format!("url: 'rediss://a', ca_file: '{}'", empty.path().display());
        let of_sentinels = format!(
            "url: 'redis://a', sentinels: ['one:1'], master_name: m, sentinel_tls: true, \
             ca_file: '{}'",
            empty.path().display()
        );
        for (yaml, words) in [
            ("master_name: m", "`blacklist.redis`: give `url` or `url_file`"),
            ("url: 'http://store'", "`blacklist.redis.url`: write `redis://"),
            ("url: 'redis://'", "`blacklist.redis.url`: "),
            ("url: 'redis://store/x'", "`blacklist.redis.url`: not an address"),
            ("url: 'rediss://store/#insecure'", "`blacklist.redis.url`: `#insecure`"),
            (
                "url: 'redis://store', ca_file: /nonexistent",
                "`blacklist.redis.ca_file`: has no effect",
            ),
            (
                "url: 'rediss://store', ca_file: /nonexistent",
                "`blacklist.redis.ca_file`: /nonexistent",
            ),
            (not_pem.as_str(), "holds no certificate"),
            (of_sentinels.as_str(), "holds no certificate"),
            (
                "sentinels: [one], master_name: m",
                "`blacklist.redis.sentinels`: [0] is not an address",
            ),
            (
                "sentinels: ['one:1'], master_name: m, sentinel_password_file: /nonexistent",
                "`blacklist.redis.sentinel_password_file`: /nonexistent",
            ),
            (
                "url: 'redis://store', key_prefix: ':'",
                "`blacklist.redis.key_prefix`: must not be empty",
            ),
            ("url: 'redis://store', outbox: ''", "`blacklist.redis.outbox`: must not be empty"),
        ] {
            let built =
                Redis::build(&config(yaml), portcullis_runtime::telemetry::RedisMetrics::default());
            let error = built.map(drop).unwrap_err().to_string();
            assert!(error.contains(words), "{yaml}: {error}");
        }
    }
}
