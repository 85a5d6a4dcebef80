module example.com/my-plugin

go 1.24

require github.com/lockgate/lockgate/guest-sdk/go v0.0.0

replace github.com/lockgate/lockgate/guest-sdk/go => ./sdk
