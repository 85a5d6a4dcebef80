export { count, join, leave, members, publish } from "lockgate:plugin/groups@0.1.0";
