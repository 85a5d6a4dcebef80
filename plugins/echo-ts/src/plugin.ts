// Sends each message back as it came, text or binary.

import { define } from "@lockgate/sdk";

export default define({
  message: (_event, message) => message,
});
