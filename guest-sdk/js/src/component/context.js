export { authorizer, current, principal, variables } from "lockgate:plugin/context@0.1.0";
