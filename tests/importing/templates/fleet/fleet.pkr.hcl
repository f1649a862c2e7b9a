# Two architectures, an organization, a protected image, a parameter as the base.
variable "types" {
  type    = list(string)
  default = ["m7g.large", "m6g.large"]
}

variable "production" {
  type    = bool
  default = true
}

data "amazon-parameterstore" "al2023" {
  name   = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
  region = "us-east-1"
}

source "amazon-ebs" "arm" {
  ami_name      = "fleet-arm-{{timestamp}}"
  region        = "us-east-1"
  source_ami    = data.amazon-parameterstore.al2023.value
  instance_type = var.types[0]
  ssh_username  = "ec2-user"
  ami_org_arns  = ["arn:aws:organizations::111111111111:organization/o-abcdefghij"]
  deprecate_at  = timeadd(timestamp(), "8760h")

  assume_role {
    role_arn     = "arn:aws:iam::333333333333:role/packer"
    session_name = "packer"
  }

  deregistration_protection {
    enabled       = true
    with_cooldown = true
  }
}

source "amazon-ebs" "intel" {
  ami_name      = "fleet-intel"
  region        = "us-east-1"
  source_ami_filter {
    filters = {
      name = "al2023-ami-2023.*-kernel-6.1-x86_64"
    }
    owners = ["amazon"]
  }
  instance_type = var.production ? "m7i.large" : "t3.micro"
  ssh_username  = "ec2-user"
  spot_price    = "0.05"
}

source "amazon-chroot" "fast" {
  ami_name = "fleet-chroot"
}

build {
  sources = ["source.amazon-ebs.arm", "source.amazon-ebs.intel", "source.amazon-chroot.fast"]

  source "amazon-ebs.intel" {
    ami_description = "Intel"
  }

  provisioner "shell" {
    only   = ["amazon-ebs.arm"]
    inline = ["sudo dnf -y install nginx"]
  }

  provisioner "shell" {
    except = ["amazon-ebs.arm"]
    inline = ["sudo dnf -y install httpd"]
  }

  provisioner "file" {
    content     = jsonencode({ fleet = true })
    destination = "/tmp/fleet.json"
  }

  error-cleanup-provisioner "shell-local" {
    inline = ["echo failed"]
  }
}
