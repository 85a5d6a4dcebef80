export { authorizer, current, isDatagram, principal, renew, timeLeft, variables } from "lockgate:plugin/context@0.1.0";
