//! Error frames: a client gets one for a message that has no answer, in the words of API Gateway (docs/api-gateway.md).

use crate::connections::{Connection, Message, RequestId};
use crate::invocation::InvokeError;

/// The text of a failure for the client, in the words of API Gateway (docs/api-gateway.md).
pub(super) fn client_text(error: &InvokeError) -> &'static str {
    match error {
        InvokeError::Busy(_) => "Too Many Requests",
        InvokeError::Deadline(_) => "Endpoint request timed out",
        InvokeError::Failed(_)
        | InvokeError::Trapped(_)
        | InvokeError::Removed
        | InvokeError::GivenUp
        | InvokeError::Host(_) => "Internal server error",
    }
}

/// API Gateway's error frame, to the byte: no space after the second and third colon.
pub(super) fn error_frame(
    message: &str,
    connection: &Connection,
    request_id: RequestId,
) -> Message {
    let id = connection.id;
    Message::Text(format!(
        r#"{{"message": "{message}", "connectionId":"{id}", "requestId":"{request_id}"}}"#
    ))
}
