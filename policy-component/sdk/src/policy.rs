//! The `Policy` trait that authors implement, and the code between the component's exports and it.
//!
//! It never keeps anything of a request: the configured policy is shared, not mutable.

use alloc::boxed::Box;

use once_cell::race::OnceBox;

use crate::{Decision, EvaluateError, Manifest, Request, SettingsError};

/// Decides on requests. See the [crate] for a whole one.
///
/// `evaluate` takes `&self` and the type must be `Send + Sync`, so that plain Rust has no place
/// where something of one request could wait for the next.
pub trait Policy: Sized + Send + Sync + 'static {
    /// Reads the route's settings, JSON text in a format of the policy's own (`null` where the
    /// route has none), and says what [`Policy::evaluate`] will want to see.
    ///
    /// Runs once for each instance, so parse and compile here what can be.
    ///
    /// # Errors
    ///
    /// For settings that cannot be honoured in full. Portcullis then refuses the policy or the
    /// configuration and shows the message to the operator: name the place and the fix.
    fn configure(settings: &str) -> Result<(Self, Manifest), SettingsError>;

    /// Decides on one request.
    ///
    /// # Errors
    ///
    /// Where there is no verdict; the client gets a status 500. To refuse is not an error but a
    /// [`Decision::Deny`].
    fn evaluate(&self, request: &Request) -> Result<Decision, EvaluateError>;
}

/// The one configured policy of a component instance.
#[derive(Debug)]
pub struct Configured<P>(OnceBox<P>);

/// Makes a type that implements [`Policy`] the policy of this component.
///
/// Once per component. It expands to nothing but a check of the type on other targets than wasm32,
/// whose linkers do not take the names of the exports.
#[macro_export]
macro_rules! export {
    ($policy:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            static CONFIGURED: $crate::__private::Configured<$policy> =
                $crate::__private::Configured::new();

            struct Component;

            impl $crate::bindings::exports::portcullis::policy::evaluator::Guest for Component {
                fn configure(
                    settings: $crate::__private::String,
                ) -> ::core::result::Result<$crate::Manifest, $crate::SettingsError> {
                    CONFIGURED.configure(&settings)
                }

                fn evaluate(
                    request: $crate::Request,
                ) -> ::core::result::Result<$crate::Decision, $crate::EvaluateError> {
                    CONFIGURED.evaluate(&request)
                }
            }

    $crate::bindings::export_evaluator!(Component with_types_in $crate::bindings);
        };

        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            const fn is_a_policy<P: $crate::Policy>() {}
            is_a_policy::<$policy>();
        };
    };
}

// === impl Configured ===

impl<P: Policy> Configured<P> {
    /// Before `configure`.
    #[must_use]
    pub const fn new() -> Self {
        Self(OnceBox::new())
    }

    /// Configures the policy and keeps it.
    ///
    /// # Errors
    ///
    /// Those of the policy, and a second configuration of the same instance.
    pub fn configure(&self, settings: &str) -> Result<Manifest, SettingsError> {
        let (policy, manifest) = P::configure(settings)?;
        self.0
            .set(Box::new(policy))
            .map_err(|_| SettingsError::invalid("", "an instance is configured only once"))?;
        Ok(manifest)
    }

    /// Asks the policy.
    ///
    /// # Errors
    ///
    /// Those of the policy, and a call before [`Configured::configure`].
    pub fn evaluate(&self, request: &Request) -> Result<Decision, EvaluateError> {
        let policy =
            self.0.get().ok_or_else(|| EvaluateError::internal("evaluate before configure"))?;
        policy.evaluate(request)
    }
}

impl<P: Policy> Default for Configured<P> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Policy for Nothing {
        fn configure(settings: &str) -> Result<(Self, Manifest), SettingsError> {
            if settings == "bad" {
                return Err(SettingsError::invalid("a", "b"));
            }
            Ok((Self, Manifest::new()))
        }

        fn evaluate(&self, _: &Request) -> Result<Decision, EvaluateError> {
            Ok(Decision::allow())
        }
    }

    #[test]
    fn an_instance_is_configured_only_once() {
        let configured = Configured::<Nothing>::new();
        assert!(configured.configure("bad").is_err());
        assert!(configured.configure("null").is_ok());
        assert!(configured.configure("null").is_err());
    }

    #[test]
    fn there_is_no_verdict_before_configure() {
        let request = Request {
            route: "r".into(),
            method: "GET".into(),
            scheme: "https".into(),
            host: "h".into(),
            path: "/".into(),
            raw_path: None,
            query: None,
            headers: alloc::vec![],
            context: alloc::vec![],
            metadata: alloc::vec![],
            identity: None,
            source: None,
            body: None,
        };
        let configured = Configured::<Nothing>::new();
        assert!(matches!(configured.evaluate(&request), Err(EvaluateError::Internal(_))));
        configured.configure("null").unwrap();
        assert!(matches!(configured.evaluate(&request), Ok(Decision::Allow(_))));
    }
}
