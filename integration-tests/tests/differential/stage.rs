//! Running processes: each site's Portcullis, one Envoy with all listeners, and the upstreams. It
//! sends requests and returns their outcomes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use envoy_types::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest,
    attribute_context::{HttpRequest, Request},
    authorization_client::AuthorizationClient,
    check_response::HttpResponse,
};
use portcullis_integration_tests::{
    envoy::Envoy,
    portcullis::Portcullis,
    token,
    wire::{Arrival, Echo, RawAnswer, RawClient, RawRequest, TAG},
};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use super::{
    envoys::{Listener, bootstrap},
    generate::overridden_by,
    sites::Site,
};

/// The number of connections to each listener.
const CONNECTIONS: usize = 4;
/// Longer than any check may take.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Requests have even numbers; the next odd number is for the second attempt.
const STEP: u64 = 2;

/// The running processes.
#[derive(Debug)]
pub(super) struct Stage {
    envoy: Envoy,
    authorizers: Vec<(&'static str, Portcullis)>,
    echoes: Arc<Vec<Echo>>,
    token: String,
}

/// The outcome of a request.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// It reached an upstream without a token.
    Allowed(Arrival),
    /// It was refused without a token; with one, this arrived.
    NeedsToken(Option<Arrival>),
    /// Portcullis or Envoy refused it, or closed the connection.
    Refused(Option<RawAnswer>),
    /// It was answered on behalf of the upstream.
    Answered(u16),
}

/// A request and its outcome.
#[derive(Debug, Clone)]
pub(super) struct Observed {
    pub(super) proxy: &'static str,
    pub(super) request: RawRequest,
    pub(super) outcome: Outcome,
    /// How Portcullis decides on what arrived, without a token: the status of its answer.
    pub(super) decided_again: Option<u16>,
}

/// The state of one connection.
struct Hand {
    proxy: &'static str,
    client: RawClient,
    authorizer: AuthorizationClient<Channel>,
    echoes: Arc<Vec<Echo>>,
    token: String,
}

// === impl Stage ===

impl Stage {
    /// Starts everything.
    pub(super) async fn start(sites: &[Site]) -> Self {
        let mut echoes = Vec::new();
        let mut authorizers = Vec::new();
        let mut listeners = Vec::new();
        for site in sites {
            let mut upstreams = Vec::new();
            for (domain, server) in site.servers() {
                let echo = Echo::start(server).await;
                upstreams.push((*domain, echo.address()));
                echoes.push(echo);
            }
            let portcullis = Portcullis::start(&site.config()).await;
            listeners.extend(site.proxies.iter().map(|proxy| Listener {
                name: proxy.name,
                authorizer: portcullis.addresses().grpc,
                manager: proxy.manager.clone(),
                ignores_ports: proxy.ignores_ports,
                upstreams: upstreams.clone(),
            }));
            authorizers.push((site.name, portcullis));
        }
        let envoy = Envoy::launch(&bootstrap(&listeners)).await;
        Self { envoy, authorizers, echoes: Arc::new(echoes), token: token::good() }
    }

    /// Sends requests to every proxy of a site.
    pub(super) async fn send(&self, site: &Site, requests: &[RawRequest]) -> Vec<Observed> {
        let mut observed = Vec::new();
        for proxy in &site.proxies {
            observed.extend(self.send_through(site, proxy.name, requests).await);
        }
        observed
    }

    /// Sends requests to the first proxy of a site, the one that changes nothing.
    pub(super) async fn send_to_first(
        &self,
        site: &Site,
        requests: &[RawRequest],
    ) -> Vec<Observed> {
        self.send_through(site, site.proxies[0].name, requests).await
    }

    async fn send_through(
        &self,
        site: &Site,
        proxy: &'static str,
        requests: &[RawRequest],
    ) -> Vec<Observed> {
        let mut hands = JoinSet::new();
        for first in 0..CONNECTIONS {
            let mut hand = self.hand(site, proxy).await;
            let step = |(index, request): (usize, &RawRequest)| {
                let tag = u64::try_from(index).expect("a number") * STEP;
                (tag, request.clone())
            };
            let mine: Vec<_> =
                requests.iter().enumerate().skip(first).step_by(CONNECTIONS).map(step).collect();
            hands.spawn(async move {
                let mut observed = Vec::with_capacity(mine.len());
                for (tag, request) in mine {
                    observed.push(hand.observe(tag, request).await);
                }
                observed
            });
        }
        hands.join_all().await.into_iter().flatten().collect()
    }

    async fn hand(&self, site: &Site, proxy: &'static str) -> Hand {
        let authorizer = self.authorizers.iter().find(|(name, _)| *name == site.name);
        let (_, portcullis) = authorizer.expect("each site has its Portcullis");
        Hand {
            proxy,
            client: RawClient::new(self.envoy.listener(proxy)),
            authorizer: connect(portcullis.addresses().grpc).await,
            echoes: Arc::clone(&self.echoes),
            token: self.token.clone(),
        }
    }
}

async fn connect(to: SocketAddr) -> AuthorizationClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{to}")).expect("an address makes a URI");
    let endpoint = endpoint.timeout(TIMEOUT);
    let channel = endpoint.connect().await.expect("Portcullis takes connections");
    AuthorizationClient::new(channel)
}

// === impl Hand ===

impl Hand {
    async fn observe(&mut self, tag: u64, request: RawRequest) -> Observed {
        let outcome = self.outcome(tag, &request).await;
        let decided_again = match &outcome {
            Outcome::Allowed(arrival) | Outcome::NeedsToken(Some(arrival)) => {
                self.decide(&request, arrival).await
            }
            _ => None,
        };
        Observed { proxy: self.proxy, request, outcome, decided_again }
    }

    async fn outcome(&mut self, tag: u64, request: &RawRequest) -> Outcome {
        let (answer, arrival) = self.exchange(tag, request).await;
        match (answer, arrival) {
            (_, Some(arrival)) => Outcome::Allowed(arrival),
            (Some(RawAnswer { status: 401, .. }), None) => {
                let token = format!("Bearer {}", self.token);
                let request = request.clone().with_header("authorization", &token);
                Outcome::NeedsToken(self.exchange(tag + 1, &request).await.1)
            }
            (Some(RawAnswer { status, .. }), None) if status < 400 => {
                assert_eq!(request.method, b"OPTIONS", "{} was lost", request.shown());
                Outcome::Answered(status)
            }
            (answer, None) => Outcome::Refused(answer),
        }
    }

    async fn exchange(
        &mut self,
        tag: u64,
        request: &RawRequest,
    ) -> (Option<RawAnswer>, Option<Arrival>) {
        let answer = self.client.send(&request.clone().with_header(TAG, &tag.to_string())).await;
        (answer, self.echoes.iter().find_map(|echo| echo.take(tag)))
    }

    /// Checks the request as it arrived, without its token; `None` if a check cannot carry it.
    ///
    /// Overriding headers are removed on the way, and a request with one is not a preflight. So
    /// they are checked as they were sent.
    async fn decide(&mut self, request: &RawRequest, arrival: &Arrival) -> Option<u16> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let mut http = HttpRequest {
            id: "1".to_owned(),
            method: text(&arrival.method)?,
            path: text(&arrival.target)?,
            host: text(arrival.value(b"host")?)?,
            scheme: "http".to_owned(),
            protocol: "HTTP/1.1".to_owned(),
            ..HttpRequest::default()
        };
        let overrides = request.headers.iter().filter(|(name, _)| overridden_by(name).is_some());
        for (name, value) in arrival.headers.iter().chain(overrides) {
            if !name.eq_ignore_ascii_case(b"authorization") && !name.eq_ignore_ascii_case(b"host") {
                http.headers.insert(text(&name.to_ascii_lowercase())?, text(value)?);
            }
        }
        let request = Request { http: Some(http), ..Request::default() };
        let attributes = AttributeContext { request: Some(request), ..AttributeContext::default() };
        let check = CheckRequest { attributes: Some(attributes) };
        let answer = self.authorizer.check(check).await.expect("a deny is no error").into_inner();
        Some(match answer.http_response {
            Some(HttpResponse::DeniedResponse(denied)) => {
                let status = denied.status.map_or(403, |status| status.code);
                u16::try_from(status).expect("a status is a small number")
            }
            _ if answer.status.is_some_and(|status| status.code == 0) => 200,
            _ => 403,
        })
    }
}
