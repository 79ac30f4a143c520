//! Attacks of the hostile guest. Each does one thing that no policy should do.

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::hint::black_box;

use once_cell::race::OnceBox;
use portcullis_policy::{
    Allowed, Decision, Denied, EvaluateError, Header, Manifest, Request, SettingsError, Value,
};

use crate::echo;

/// The header value that the guest keeps from the first request.
static REMEMBERED: OnceBox<String> = OnceBox::new();

/// The header that `remember` collects.
const SECRET_HEADER: &str = "x-secret";

/// Declares the attacks with the names that settings give them.
macro_rules! attacks {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// An attack.
        #[derive(Debug, Clone, Copy)]
        pub(crate) enum Attack {
            $($(#[$doc])* $variant,)*
        }

        impl Attack {
            /// The attack with this name.
            pub(crate) fn by_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

attacks! {
    /// No attack: allows every request.
    None = "none",
    /// No attack: requests every input, and echoes what it gets.
    Echo = "echo",
    /// The same, without requesting an input.
    EchoNothing = "echo_nothing",

    // Attacks on time and memory.
    /// Never answers.
    Spin = "spin",
    /// Allocates until it gets no more memory, and then traps.
    GrowMemory = "grow_memory",
    /// Allocates until it gets no more memory, and then answers normally.
    HoldMemory = "hold_memory",
    /// Recurses until the stack overflows.
    Recurse = "recurse",
    /// Traps.
    Panic = "panic",

    // Attacks with the answer.
    /// A deny with a body of `size` bytes.
    HugeReply = "huge_reply",
    /// An allow with `size` / 64 headers.
    HugeList = "huge_list",
    /// An allow with one header value of `size` bytes.
    HugeHeader = "huge_header",
    /// An error whose message has `size` bytes.
    HugeError = "huge_error",
    /// An error instead of a decision.
    Error = "error",
    /// A deny with a reason that would forge a log line.
    LogInjection = "log_injection",
    /// A deny with status 999.
    BadStatus = "bad_status",
    /// A deny with status 0.
    ZeroStatus = "zero_status",
    /// A deny with status 100, which is not a final status.
    InformationalStatus = "informational_status",

    // Attacks on the request behind Portcullis and on the response.
    /// Sets a header with an invalid name.
    BadHeader = "bad_header",
    /// Sets a header without a name.
    EmptyHeaderName = "empty_header_name",
    /// Sets a header with a name in upper case.
    UpperCaseHeader = "upper_case_header",
    /// Sets a header with a line break in its value.
    CrlfHeader = "crlf_header",
    /// Sets a header with a NUL in its value.
    NulHeader = "nul_header",
    /// Sets `:path`.
    PseudoHeader = "pseudo_header",
    /// Sets `host`.
    HostHeader = "host_header",
    /// Sets `transfer-encoding`.
    HopByHopHeader = "hop_by_hop_header",
    /// Sets `size` headers.
    ManyRequestHeaders = "many_request_headers",
    /// Sets a header that Envoy treats as its own.
    EnvoyHeader = "envoy_header",
    /// Removes one.
    RemoveEnvoyHeader = "remove_envoy_header",
    /// Sets `x-user-id`, which only the host may set.
    SpoofIdentity = "spoof_identity",
    /// Removes `x-user-id`.
    RemoveIdentity = "remove_identity",
    /// Removes `host`.
    RemoveHost = "remove_host",
    /// Sets and removes the same header.
    SetAndRemove = "set_and_remove",
    /// Adds a response header that would make Envoy remove request headers.
    RemovalResponseHeader = "removal_response_header",
    /// Adds a response header under the name of an identity header.
    IdentityResponseHeader = "identity_response_header",
    /// Adds a response header with a line break in its value.
    CrlfResponseHeader = "crlf_response_header",
    /// A deny with a header with a line break in its value.
    CrlfDenyHeader = "crlf_deny_header",
    /// Sets a query parameter that would add another.
    QueryInjection = "query_injection",
    /// Sets query parameters whose values look like further parameters, and removes `debug`.
    QueryValues = "query_values",
    /// Sets `x_user_id`, which many servers read as `x-user-id`.
    SpoofFoldedIdentity = "spoof_folded_identity",
    /// Sets two headers that many servers read as one.
    AlikeHeaders = "alike_headers",
    /// Sets `authorization`.
    SetToken = "set_token",
    /// Sets the header `cookie`, with a cookie `session` among others.
    SetCookies = "set_cookies",
    /// Sets a header with a blank before its value.
    BlankHeader = "blank_header",
    /// Sets a header to nothing.
    EmptyHeader = "empty_header",
    /// Adds `x-user-id` to the response.
    IdentityInResponse = "identity_in_response",
    /// Adds the response header that lists the request headers to remove.
    ProtocolHeader = "protocol_header",
    /// The same on a deny.
    ProtocolHeaderOfDeny = "protocol_header_of_deny",
    /// Adds `size` response headers, each with its own name.
    ManyResponseHeaders = "many_response_headers",
    /// A deny with as many headers.
    ManyDenyHeaders = "many_deny_headers",
    /// A deny with status 204 and a body.
    BodyOf204 = "body_of_204",
    /// A deny with status 205 and a body.
    BodyOf205 = "body_of_205",
    /// A deny with status 304 and a body.
    BodyOf304 = "body_of_304",
    /// Puts text that is not JSON where JSON is expected.
    BadMetadata = "bad_metadata",
    /// A deny with metadata of `size` nested objects.
    DeepMetadata = "deep_metadata",
    /// An allow with as many nested lists.
    DeepMetadataOfAllow = "deep_metadata_of_allow",
    /// A deny with `size` values in its metadata.
    WideMetadata = "wide_metadata",

    // An attack on other requests.
    /// Keeps the first `x-secret` header, and reveals it to all later requests in `x-remembered`.
    Remember = "remember",

    // Attacks in `configure`.
    /// Traps.
    ConfigureTrap = "configure_trap",
    /// Never answers.
    ConfigureSpin = "configure_spin",
    /// Allocates until it gets no more memory.
    ConfigureGrowMemory = "configure_grow_memory",
    /// Refuses the settings with a message of `size` bytes.
    HugeSettingsError = "huge_settings_error",
    /// Requests `size` / 64 headers.
    HugeManifest = "huge_manifest",
    /// Requests a header with an invalid name.
    BadManifest = "bad_manifest",
}

impl Attack {
    /// The attack in `configure`.
    pub(crate) fn configure(self, size: usize) -> Result<Manifest, SettingsError> {
        match self {
            Self::ConfigureTrap => trap(),
            Self::ConfigureSpin => spin(),
            Self::ConfigureGrowMemory => {
                drop(take_all_memory());
                trap()
            }
            Self::HugeSettingsError => Err(SettingsError::invalid("attack", "x".repeat(size))),
            Self::HugeManifest => {
                Ok((0..size / 64).fold(Manifest::new(), |mut manifest, number| {
                    manifest.headers.push(number.to_string());
                    manifest
                }))
            }
            Self::BadManifest => Ok(Manifest::new().with_header(":path\r\n")),
            Self::Echo => Ok(echo::manifest()),
            Self::EchoNothing => Ok(Manifest::new()),
            _ => Ok(Manifest::new().with_header(SECRET_HEADER)),
        }
    }

    /// The attack on a request.
    pub(crate) fn evaluate(
        self,
        request: &Request,
        size: usize,
    ) -> Result<Decision, EvaluateError> {
        Ok(match self {
            Self::Spin => spin(),
            Self::GrowMemory => {
                drop(take_all_memory());
                trap()
            }
            Self::HoldMemory => {
                drop(take_all_memory());
                Decision::allow()
            }
            Self::Recurse => {
                black_box(recurse(black_box(0)));
                Decision::allow()
            }
            Self::Panic => trap(),
            Self::Error => return Err(EvaluateError::internal("the guest has no answer")),
            Self::HugeError => return Err(EvaluateError::internal("x".repeat(size))),
            Self::Remember => remember(request),
            Self::Echo | Self::EchoNothing => echo::answer(request),
            _ => self.reply(size),
        })
    }

    /// The decision with which the guest attacks.
    fn reply(self, size: usize) -> Decision {
        match self {
            Self::HugeReply => Denied::new(403, "hostile").body("x".repeat(size)).into(),
            Self::LogInjection => Decision::deny(403, "fine\n{\"level\":\"INFO\",\"forged\":true}"),
            Self::BadStatus => Decision::deny(999, "hostile"),
            Self::ZeroStatus => Decision::deny(0, "hostile"),
            Self::InformationalStatus => Decision::deny(100, "hostile"),
            Self::BodyOf204 => with_body(204),
            Self::BodyOf205 => with_body(205),
            Self::BodyOf304 => with_body(304),
            Self::BadMetadata => {
                Allowed::new().metadata("a", Value::Json("{not json".to_string())).into()
            }
            Self::DeepMetadata => {
                let metadata = nested("{\"a\":", "}", size);
                Denied::new(403, "hostile").metadata("a", Value::Json(metadata)).into()
            }
            Self::DeepMetadataOfAllow => {
                Allowed::new().metadata("a", Value::Json(nested("[", "]", size))).into()
            }
            Self::WideMetadata => {
                let texts = Value::Texts(vec!["x".to_string(); size]);
                Denied::new(403, "hostile").metadata("a", texts).into()
            }
            _ => self
                .change_request(size)
                .or_else(|| self.change_response(size))
                .unwrap_or_else(Decision::allow),
        }
    }

    /// An attack on the request behind Portcullis.
    fn change_request(self, size: usize) -> Option<Decision> {
        let set = |name: &str, value: &str| Allowed::new().set_header(name, value);
        Some(Decision::from(match self {
            Self::HugeList => many_headers(size / 64),
            Self::HugeHeader => set("x-huge", &"x".repeat(size)),
            Self::BadHeader => set("x bad:", "value"),
            Self::EmptyHeaderName => set("", "value"),
            Self::UpperCaseHeader => set("X-Upper", "value"),
            Self::CrlfHeader => set("x-split", "a\r\nx-user-id: admin"),
            Self::NulHeader => set("x-nul", "a\0b"),
            Self::BlankHeader => set("x-blank", " a"),
            Self::EmptyHeader => set("x-empty", ""),
            Self::PseudoHeader => set(":path", "/admin"),
            Self::HostHeader => set("host", "internal.example"),
            Self::HopByHopHeader => set("transfer-encoding", "chunked"),
            Self::ManyRequestHeaders => (0..size).fold(Allowed::new(), |allowed, number| {
                allowed.set_header(format!("x-many-{number}"), "v")
            }),
            Self::EnvoyHeader => set("x-envoy-foo", "a"),
            Self::RemoveEnvoyHeader => Allowed::new().remove_header("x-envoy-foo"),
            Self::SpoofIdentity => set("x-user-id", "admin"),
            Self::SpoofFoldedIdentity => set("x_user_id", "admin"),
            Self::AlikeHeaders => set("x-role", "user").set_header("x_role", "admin"),
            Self::SetToken => set("authorization", "Basic cm9vdDpyb290"),
            Self::SetCookies => set("cookie", "tenant=a; session=back"),
            Self::RemoveIdentity => Allowed::new().remove_header("x-user-id"),
            Self::RemoveHost => Allowed::new().remove_header("host"),
            Self::SetAndRemove => Allowed::new().set_header("x-both", "a").remove_header("x-both"),
            Self::QueryInjection => Allowed::new().set_query("a", "1&admin=true#\r\n"),
            Self::QueryValues => Allowed::new()
                .set_query("user", "a&role=admin")
                .set_query("next", "a b#c")
                .set_query("role", "user")
                .remove_query("debug"),
            _ => return None,
        }))
    }

    /// An attack on the response.
    fn change_response(self, size: usize) -> Option<Decision> {
        const SPLIT: &str = "a\r\nset-cookie: a=b";
        const REMOVE: &str = "x-envoy-auth-headers-to-remove";
        let respond = |name: &str, value: &str| Allowed::new().response_header(name, value).into();
        let deny = |name: &str, value: &str| Denied::new(403, "hostile").header(name, value).into();
        let names = (0..size).map(|number| format!("x-{number}"));
        Some(match self {
            Self::RemovalResponseHeader => respond(REMOVE, "x-user-id,x-keep"),
            Self::IdentityResponseHeader => respond("x-roles", "admin"),
            Self::CrlfResponseHeader => respond("x-split", SPLIT),
            Self::CrlfDenyHeader => deny("x-split", SPLIT),
            Self::IdentityInResponse => respond("x-user-id", "admin"),
            Self::ProtocolHeader => respond(REMOVE, "x-user-id"),
            Self::ProtocolHeaderOfDeny => deny(REMOVE, "x-user-id"),
            Self::ManyResponseHeaders => names
                .fold(Allowed::new(), |allowed, name| allowed.response_header(name, "v"))
                .into(),
            Self::ManyDenyHeaders => {
                let denied = Denied::new(403, "hostile");
                names.fold(denied, |denied, name| denied.header(name, "v")).into()
            }
            _ => return None,
        })
    }
}

/// A deny with a body under a status without one; the body would be read as the next answer.
fn with_body(status: u16) -> Decision {
    Denied::new(status, "hostile")
        .body("HTTP/1.1 200 OK\r\n\r\n")
        .header("content-type", "a/b")
        .into()
}

/// JSON text with `depth` nested values.
fn nested(open: &str, close: &str, depth: usize) -> String {
    [open.repeat(depth), "1".to_string(), close.repeat(depth)].concat()
}

fn spin() -> ! {
    loop {
        black_box(());
    }
}

/// Ends the call with a trap. A lint bans the `panic!` macro itself.
fn trap() -> ! {
    unreachable!("the guest panics on purpose")
}

/// Allocates all available memory, and touches each page.
fn take_all_memory() -> Vec<Vec<u8>> {
    const BLOCK: usize = 64 << 10;
    let mut blocks = Vec::new();
    while blocks.try_reserve(1).is_ok() {
        let mut block = Vec::new();
        if block.try_reserve_exact(BLOCK).is_err() {
            break;
        }
        block.resize(BLOCK, 1);
        blocks.push(block);
    }
    black_box(blocks)
}

/// Each frame keeps a value alive across the call, so that the compiler cannot make it a loop.
#[expect(unconditional_recursion, reason = "that is the attack")]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 32]);
    recurse(depth + 1) + frame[usize::from(black_box(0_u8))]
}

fn many_headers(count: usize) -> Allowed {
    let mut allowed = Allowed::new();
    allowed.set_request_headers =
        vec![Header { name: "x-many".to_string(), value: "v".to_string() }; count];
    allowed
}

fn remember(request: &Request) -> Decision {
    let seen = request.header(SECRET_HEADER).map(ToString::to_string);
    let before = REMEMBERED.get().cloned();
    if let Some(seen) = seen {
        // The first value stays.
        let _ = REMEMBERED.set(Box::new(seen));
    }
    let allowed = Allowed::new();
    match before {
        Some(before) => allowed.response_header("x-remembered", before).into(),
        None => allowed.into(),
    }
}
