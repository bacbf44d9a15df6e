# For tools that insist on node-gyp: CMakeLists.txt is the build, this only calls it (output: build/Release/foretoken.node).
{
  "targets": [
    {
      "target_name": "cmake",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake-js",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["<(PRODUCT_DIR)/foretoken.node.always"],
          "action": ["npm", "--prefix", "<(module_root_dir)", "run", "build:native"]
        }
      ]
    }
  ]
}
