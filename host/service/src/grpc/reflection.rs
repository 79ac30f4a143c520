//! gRPC reflection, for `grpcurl` and similar tools. Off unless configured.
//!
//! `authorization.binpb` is a `google.protobuf.FileDescriptorSet` with Envoy's
//! `external_auth.proto` and all that it imports, without source comments.

use tonic::service::Routes;

/// The file, as `protoc --descriptor_set_out --include_imports` writes it.
pub(super) const AUTHORIZATION: &[u8] = include_bytes!("authorization.binpb");

/// Adds both versions of the reflection service, since tools differ in which they ask for.
pub(super) fn add_to(routes: Routes) -> Routes {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(AUTHORIZATION)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    match (builder().build_v1(), builder().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes.add_service(v1).add_service(v1alpha),
        (Err(error), _) | (_, Err(error)) => {
            // A test decodes the file, so this is unreachable; and no reason not to authorize.
            tracing::error!(%error, "cannot describe the service");
            routes
        }
    }
}
