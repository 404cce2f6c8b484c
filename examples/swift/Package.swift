// swift-tools-version:5.9
import PackageDescription

let package = Package(
    name: "Edgekit",
    platforms: [.macOS(.v12), .iOS(.v15)],
    products: [.library(name: "Edgekit", targets: ["Edgekit"])],
    targets: [
        .systemLibrary(name: "CEdgekit"),
        .target(name: "Edgekit", dependencies: ["CEdgekit"]),
        .executableTarget(name: "chat", dependencies: ["Edgekit"]),
    ]
)
