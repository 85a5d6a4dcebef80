export { authorizer, current, principal, renew, timeLeft, variables } from "lockgate:plugin/context@0.1.0";
