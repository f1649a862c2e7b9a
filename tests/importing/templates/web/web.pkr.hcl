# A web server: one source, variables, a data source, scripts, uploads.
packer {
  required_plugins {
    amazon = {
      version = ">= 1.3.0"
      source  = "github.com/hashicorp/amazon"
    }
  }
}

variable "region" {
  type    = string
  default = "eu-central-1"
}

variable "nginx_version" {
  type        = string
  description = "Given by the pipeline."
}

variable "workers" {
  type    = number
  default = 4
}

variable "registry_token" {
  type      = string
  sensitive = true
  default   = ""
}

variable "common_tags" {
  type = map(string)
  default = {
    Team       = "web"
    CostCenter = "4711"
  }
}

locals {
  stamp = formatdate("YYYYMMDDhhmmss", timestamp())
  name  = "acme-web"
}

data "amazon-ami" "debian" {
  region      = var.region
  most_recent = true
  owners      = ["136693071363"]
  filters = {
    name                = "debian-12-amd64-*"
    root-device-type    = "ebs"
    virtualization-type = "hvm"
  }
}

source "amazon-ebs" "web" {
  region          = var.region
  source_ami      = data.amazon-ami.debian.id
  instance_type   = "t3.small"
  ssh_username    = "admin"
  ssh_timeout     = "1h30m"
  ami_name        = "${local.name}-${local.stamp}"
  ami_description = "Web server of Acme"
  ami_regions     = ["eu-west-1", "us-east-1"]
  ami_users       = ["222222222222"]
  encrypt_boot    = true
  kms_key_id      = "alias/acme"
  region_kms_key_ids = {
    eu-west-1 = "alias/acme-west"
    us-east-1 = ""
  }

  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_size           = 20
    volume_type           = "gp3"
    throughput            = 250
    delete_on_termination = true
  }

  launch_block_device_mappings {
    device_name = "/dev/sdf"
    volume_size = 50
    volume_type = "gp3"
  }

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 2
  }

  imds_support = "v2.0"
  run_tags     = merge(var.common_tags, { Purpose = "image build" })
  tags = merge(var.common_tags, {
    Name    = local.name
    Service = "web-${var.region}"
  })
}

build {
  name    = "web"
  sources = ["source.amazon-ebs.web"]

  provisioner "file" {
    source      = "site/"
    destination = "/srv/www"
  }

  provisioner "shell" {
    environment_vars = [
      "WORKERS=${var.workers}",
      "NGINX_VERSION=${var.nginx_version}",
      "TOKEN=${var.registry_token}",
    ]
    execute_command = "{{ .Vars }} sudo -E -S bash '{{ .Path }}'"
    scripts = [
      "scripts/install.sh",
      "scripts/missing.sh",
    ]
  }

  provisioner "shell" {
    inline = [
      "docker inspect --format '{{ .State }}' web || true",
      "files=(a b); echo $${#files[@]}",
      <<-EOT
        cat > /tmp/motd <<MOTD
        region ${var.region}
        MOTD
      EOT
      ,
    ]
    inline_shebang = "/bin/bash -ex"
  }

  provisioner "shell" {
    inline            = ["sudo reboot"]
    expect_disconnect = true
    pause_after       = "30s"
  }

  provisioner "shell" {
    inline = ["echo built at ${timestamp()}"]
  }

  provisioner "ansible" {
    playbook_file   = "site.yml"
    groups          = ["web"]
    extra_arguments = ["--extra-vars", "size=large colour=red", "--tags=base,web", "--forks", "5"]
  }

  post-processor "manifest" {
    output = "manifest.json"
  }

  post-processors {
    post-processor "shell-local" {
      inline = ["echo done"]
    }
  }
}
