export { authorizer, current, principal, timeLeft, variables } from "lockgate:plugin/context@0.1.0";
