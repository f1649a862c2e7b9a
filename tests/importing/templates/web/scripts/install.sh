#!/bin/bash
set -e
apt-get install -y nginx
echo "$PACKER_BUILD_NAME" >/etc/image
